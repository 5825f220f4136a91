"""Two models of people's own, told apart: their units paired, their numbers aligned, the first difference explained.

client        a side's process, asked
mapping       which unit of one is which of the other
alignment     which tensor of one is which of the other, by their values
places        where the first difference is, and what stands on both sides of it
alternatives  what a call could have been made with instead
laboratory    which of these reproduces the other side
remedies      the line to write instead
difference    all of it, in one document
"""
