#include <Python.h>

#include <stdexcept>
#include <string>

static PyObject *lift(PyObject *, PyObject *arg) {
    try {
        const char *text = PyUnicode_AsUTF8(arg);
        if (!text) return nullptr;
        if (!*text) throw std::runtime_error("empty");
        std::string twice = std::string(text) + text;
        return PyUnicode_FromStringAndSize(twice.data(), static_cast<Py_ssize_t>(twice.size()));
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_ValueError, error.what());
        return nullptr;
    }
}

static PyMethodDef methods[] = {{"lift", lift, METH_O, nullptr}, {nullptr, nullptr, 0, nullptr}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "cxx_lift", nullptr, 0, methods};

PyMODINIT_FUNC PyInit_cxx_lift(void) { return PyModuleDef_Init(&module); }
