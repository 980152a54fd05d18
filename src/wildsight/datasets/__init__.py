"""What is read from disk before a task sees it: picture folders, masks, lists, and the folders of benchmarks.

Each kind of input has one reader with one rule: `folders` (which files are pictures, what a class is called),
`masks` (which part of a mask is the defect), `lists` (CSV, TXT and JSON that a person may have edited); the
other files read one benchmark, or one family of them. No torch here, and nothing is ever downloaded.
"""
