#!/bin/sh
# The tool of this file's name, run by the rules of wrapper.py under the build's own Python.
exec "${WHEELFARM_PYTHON:?this compiler runs only inside a wheelfarm build}" \
    -I -S "${0%/*}/../wrapper.py" "${0##*/}" "$@"
