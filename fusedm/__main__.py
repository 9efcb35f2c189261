"""python -m fusedm"""

from fusedm.control import main

main()
