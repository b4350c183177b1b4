from setuptools import Extension, setup

setup(
    name="cext",
    version="1.0",
    packages=["cext"],
    ext_modules=[Extension("cext._fast", ["src/fast.c"])],
)
