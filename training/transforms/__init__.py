"""Batch transform: files or a feature group answered by a model, in jobs of their own.

job         what is asked for: CreateTransformJob; its parts in `parts`
pointing    JSONPath, as far as filters use it
cutting     files into records, records into requests
joining     filters, and inputs beside their answers
answering   one request to one answer: models of algorithms
serving     the same for models of scripts
work        a job's own process
groups      feature groups as input and output
registry    the jobs of a home
supervisor  takes one job from start to end
runner      starts jobs and waits for them
"""
