"""What stands in a macOS toolchain folder as it is; the rest of the folder is made per target.

These files run under the build's own Python (3.8 on) and find the target's facts in the
``target.json`` of the folder that they were copied to. They import nothing of wheelfarm.
"""
