/*
 * zoo_door_read.c - get, find, get_many: values as new bytes objects.
 *
 * The value is copied out of the segment into the object that is returned, which
 * nobody else has seen yet: if it turns out to be torn, stale or expired, the
 * object goes, and the caller gets None.
 */
#include "zoo_door.h"

enum { GET_RETRIES = 3 };

/* What an entry has beside its value. */
struct about {
    PyObject *deps; /* hashes, in bytes */
    uint64_t stamp;
    uint64_t expiry;
};

static bool take_about(const struct zoo_rec *rec, struct about *about)
{
    about->stamp = rec->stamp & ZOO_CLOCK_MASK;
    about->expiry = zoo_rec_expiry(rec);
    about->deps = PyBytes_FromStringAndSize((const char *)zoo_rec_deps(rec),
                                            8 * (Py_ssize_t)zoo_rec_n_deps(rec));
    return about->deps != NULL;
}

/*
 * The value of a key as a new bytes object, with what else is asked for; or NULL
 * and what came of it, which is < 0 where an exception is set.
 */
static PyObject *read_value(const struct door *door, PyObject *key, uint64_t grace_ms,
                            struct zoo_hit *hit, struct about *about, int *outcome)
{
    struct zoo_text text;
    PyObject *value = NULL;
    *outcome = ZOO_E_MEMORY;
    if (!zoo_door_text(door, key, &text))
        return NULL;
    *outcome = ZOO_LAPPED;
    for (int tries = 0; tries < GET_RETRIES && *outcome == ZOO_LAPPED; tries++) {
        *outcome = zoo_door_core->find(door->seg, text.at, (size_t)text.len, hit);
        if (*outcome != ZOO_OK)
            break;
        value = PyBytes_FromStringAndSize(NULL, hit->rec->value_len);
        if (value == NULL || (about != NULL && !take_about(hit->rec, about))) {
            zoo_door_core->close(hit);
            *outcome = ZOO_E_MEMORY;
        } else {
            *outcome = zoo_door_core->take(door->seg, hit, PyBytes_AsString(value), grace_ms);
        }
        if (*outcome != ZOO_OK && *outcome != ZOO_GRACE) {
            Py_CLEAR(value);
            if (about != NULL)
                Py_CLEAR(about->deps);
        }
    }
    Py_XDECREF(text.encoded);
    if (*outcome == ZOO_RETIRED && !zoo_door_note_retired(door))
        *outcome = ZOO_E_MEMORY;
    else if (*outcome == ZOO_E_KEY)
        zoo_door_raise(door, ZOO_E_KEY, key);
    return value;
}

/* get(key) -> bytes | None */
PyObject *zoo_door_get(PyObject *self, PyObject *key)
{
    struct zoo_hit hit;
    int outcome;
    const struct door *door = zoo_door_of(self);
    PyObject *value = read_value(door, key, 0, &hit, NULL, &outcome);
    if (value != NULL)
        return value;
    if (outcome < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* find(key, grace_ms) -> (value, dependency hashes, fresh, stamp, expiry in ms) | None */
PyObject *zoo_door_find(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct zoo_hit hit;
    int outcome;
    struct about about = {NULL, 0, 0};
    if (n != 2) {
        PyErr_SetString(PyExc_TypeError, "find(key, grace_ms)");
        return NULL;
    }
    uint64_t grace_ms = PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    PyObject *value = read_value(zoo_door_of(self), args[0], grace_ms, &hit, &about, &outcome);
    if (value != NULL)
        return Py_BuildValue("NNOKK", value, about.deps, outcome == ZOO_OK ? Py_True : Py_False,
                             (unsigned long long)about.stamp, (unsigned long long)about.expiry);
    if (outcome < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* get_many(keys) -> [bytes | None, ...] in the order of the keys */
PyObject *zoo_door_get_many(PyObject *self, PyObject *keys)
{
    const struct door *door = zoo_door_of(self);
    PyObject *all = PySequence_Tuple(keys);
    if (all == NULL)
        return NULL;
    Py_ssize_t n = PyTuple_Size(all);
    PyObject *found = PyList_New(n);
    for (Py_ssize_t i = 0; i < n && found != NULL; i++) {
        struct zoo_hit hit;
        int outcome;
        PyObject *value = read_value(door, PyTuple_GetItem(all, i), 0, &hit, NULL, &outcome);
        if (value == NULL && outcome < 0) {
            Py_CLEAR(found);
            break;
        }
        if (value == NULL) {
            value = Py_None;
            Py_INCREF(value);
        }
        PyList_SetItem(found, i, value);
    }
    Py_DECREF(all);
    return found;
}
