/* zoo_level.h - the types of zoo_level.c, for the module that they are in. */
#ifndef ZOO_LEVEL_H
#define ZOO_LEVEL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

enum { ZOO_LEVEL_STATE = 5 * sizeof(void *) }; /* bytes of the module's state: the types */

static inline void *zoo_level_state(PyObject *module)
{
    return module == NULL ? NULL : PyModule_GetState(module);
}

int zoo_level_exec(PyObject *module);
int zoo_level_traverse(PyObject *module, visitproc visit, void *arg);
int zoo_level_clear(PyObject *module);

#endif
