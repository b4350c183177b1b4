from setuptools import Extension, setup

setup(packages=[], ext_modules=[Extension("cxx_lift", ["cxx_lift.cpp"])])
