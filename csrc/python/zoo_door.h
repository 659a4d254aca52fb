/*
 * zoo_door.h - what the operations of the door share: the segment, errors, keys.
 */
#ifndef ZOO_DOOR_H
#define ZOO_DOOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "zoo_layout.h"

/* Of the cffi extension: a process must have one core. Every bind() gives the same. */
extern const struct zoo_core *zoo_door_core;

/* What the functions of one segment share. */
struct door {
    zoo_seg *seg;
    PyObject *owner;    /* the Segment: keeps the handle open */
    PyObject *on_error; /* (status, key or tag) -> the exception to raise */
    PyObject *outcomes; /* a tuple of Outcome members, by their number */
    PyTypeObject *intent;
};

/* Of a function's `self`. */
struct door *zoo_door_of(PyObject *self);
/* Raises what `on_error` makes of a status. Returns NULL. */
PyObject *zoo_door_raise(const struct door *door, int status, PyObject *about);
/* Tells the owner, so that the next operation opens the name again. False: it raised. */
bool zoo_door_note_retired(const struct door *door);

/* Bytes of a key or tag, and what must be let go when they are not needed any more. */
struct zoo_text {
    const char *at;
    Py_ssize_t len;
    PyObject *encoded;
};
/* False: an exception is set. */
bool zoo_door_text(const struct door *door, PyObject *object, struct zoo_text *text);

/* zoo_door_read.c */
PyObject *zoo_door_get(PyObject *self, PyObject *key);
PyObject *zoo_door_find(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *zoo_door_get_many(PyObject *self, PyObject *keys);

/* zoo_intent_door.c */
PyObject *zoo_door_intent(PyObject *self, PyObject *unused);
PyObject *zoo_door_announce(PyObject *self, PyObject *const *args, Py_ssize_t n);

/* zoo_door_write.c */
PyObject *zoo_door_set(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *zoo_door_fill(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *zoo_door_add(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *zoo_door_replace(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *zoo_door_set_many(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *zoo_door_invalidate(PyObject *self, PyObject *const *args, Py_ssize_t n);

#endif
