"""The training report: one HTML file for each training, with its plots.

render  the report's content, and report.html.jinja filled with it
plots   SVG plots
"""
