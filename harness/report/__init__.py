"""What is shown: rows and tables (board), pages, exports, and the site they make.

It reads the store only, and never loads torch.
"""
