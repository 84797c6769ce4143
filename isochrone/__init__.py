"""The contract between agent and collector: names, values, wire encoding. No I/O, no clock."""
