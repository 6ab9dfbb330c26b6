"""The HTML reports, and figures in words."""
