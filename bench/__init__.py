"""FreeTickets reproducibility benchmark: what a cell is, and how to plan, train and evaluate one."""
