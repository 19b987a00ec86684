"""`python3 -m gdb_kdump` is the program gdb-kdump."""

import sys

from gdb_kdump.launcher.main import main

sys.exit(main())
