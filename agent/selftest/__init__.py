"""How true this host's measurements are: the product measures its own simulator, and is held against its kernel.

children -> measure -> cells -> verdict -> report
(start)     (streams)  (errors) (words)    (table)
"""
