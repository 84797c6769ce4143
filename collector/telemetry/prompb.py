"""The messages of Prometheus remote write 1.0 (prompb), made at run time: no package has them. Pure.

WriteRequest { repeated TimeSeries timeseries = 1 }
TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2 }
Label        { string name = 1; string value = 2 }
Sample       { double value = 1; int64 timestamp = 2 }     milliseconds of Unix time
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

Labels = tuple[tuple[str, str], ...]
"""Sorted by name."""
Sample = tuple[int, float]
"""Unix time in milliseconds, and the value."""

_MESSAGES: Final = {
    "Label": (("name", Field.TYPE_STRING), ("value", Field.TYPE_STRING)),
    "Sample": (("value", Field.TYPE_DOUBLE), ("timestamp", Field.TYPE_INT64)),
    "TimeSeries": (("labels", "Label"), ("samples", "Sample")),
    "WriteRequest": (("timeseries", "TimeSeries"),),
}


@cache
def write_request() -> Any:  # noqa: ANN401  a class that is made at run time
    """Return the class of a request."""
    file = FileDescriptorProto(name="isochrone/remote_write.proto", package="prometheus", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, start=1):
            if isinstance(kind, str):
                message.field.add(
                    name=field,
                    number=number,
                    label=Field.LABEL_REPEATED,
                    type=Field.TYPE_MESSAGE,
                    type_name=f".prometheus.{kind}",
                )
            else:
                message.field.add(name=field, number=number, label=Field.LABEL_OPTIONAL, type=kind)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


def serialize(series: Iterable[tuple[Labels, list[Sample]]]) -> bytes:
    """Return a request of series, each with its samples in the order of time."""
    request = write_request()()
    for labels, samples in series:
        one = request.timeseries.add()
        for name, value in labels:
            one.labels.add(name=name, value=value)
        for timestamp, number in samples:
            one.samples.add(timestamp=timestamp, value=number)
    data: bytes = request.SerializeToString()
    return data
