"""Whether a file is a kernel as boot loaders take it: packed, and without any symbol."""

from __future__ import annotations

# Documentation/arch/x86/boot.rst; Documentation/arch/arm64/booting.rst; drivers/firmware/efi/libstub/zboot-header.S
_MAGICS = ((0x202, b"HdrS"), (0x38, b"ARM\x64"), (4, b"zimg"))
LONGEST = 0x206  # bytes of a file's beginning that tell


def is_boot_image(beginning: bytes) -> bool:
    """Whether a file that begins so is a bzImage, an Image of arm64, or one for EFI that unpacks itself."""
    return any(beginning.startswith(magic, offset) for offset, magic in _MAGICS)
