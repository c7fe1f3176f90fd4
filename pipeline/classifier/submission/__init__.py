"""`submission.csv`: what a sample submission asks for, planned before anything is predicted.

plan         submission.csv in the form of a sample submission
window_plan  the same for a sample whose ids name file and time
time_columns  the same for a sample with columns of starts and ends
sample       reads a sample submission, and recognizes its columns
values       labels, indices or probabilities: what a sample requests
filled_values  values from predictions
clip_ids     finds clips by ids as others write them
row_ids      ids of windows by a pattern
class_names  names of classes as others write them
"""
