"""python -m fusedm"""

from fusedm.cli import main

main()
