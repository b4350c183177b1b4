#include <Python.h>

#ifndef __APPLE__
#error "not the compiler of the target"
#endif

static PyObject *lift(PyObject *self, PyObject *arg) { return PyNumber_Add(arg, arg); }

static PyMethodDef methods[] = {{"lift", lift, METH_O, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_lift", NULL, 0, methods};

PyMODINIT_FUNC PyInit__lift(void) { return PyModuleDef_Init(&module); }
