from setuptools import Extension, setup

speedups = Extension("optional_lift._speedups", ["_speedups.c"], optional=True)
setup(packages=["optional_lift"], ext_modules=[speedups])
