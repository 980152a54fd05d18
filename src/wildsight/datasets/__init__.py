"""What is read from disk before a task sees it: picture folders, masks, lists, annotations, and benchmarks.

Each kind of input has one reader with one rule: `folders` (which files are pictures, what a class is called),
`masks` (which part of a mask is the defect), `lists` (CSV, TXT and JSON that a person may have edited),
`annotations` (COCO, YOLO, LabelMe, Label Studio) and `tables` (a CSV of pictures); `formats` registers those
that tasks share. The other files read one benchmark, or one family of them. No torch here, and nothing is
downloaded but what ``hf:USER/SET`` names.
"""
