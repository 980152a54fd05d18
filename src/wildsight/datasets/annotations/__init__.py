"""What annotation tools write: COCO, YOLO, LabelMe and Label Studio, each read and written in one file.

Every format becomes the same thing, pictures with labelled regions (`regions`), and the masks that the tasks
read are drawn from those (`drawn`). `writing` is the way back, from what a model marked to a file that a tool
opens. The extra ``annotations`` has to be installed.
"""
