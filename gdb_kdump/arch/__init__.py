"""All that a machine decides: registers, page tables, unwinding rows, entry frames."""
