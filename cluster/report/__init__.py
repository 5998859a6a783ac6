"""What people look at after a run: tables, plots, pages."""
