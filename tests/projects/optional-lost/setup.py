from setuptools import Extension, setup

setup(
    name="optional-lost",
    version="1.0",
    py_modules=["optional_lost"],
    ext_modules=[Extension("_optional_fast", ["fast.c"], optional=True)],
)
