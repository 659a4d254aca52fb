/*
 * zoo_door_write.c - set, fill, add, replace, set_many, invalidate.
 *
 * Tags are hashed here, straight from the str objects. What the core answers is
 * returned as what it is; an exception is raised for what the caller must not take
 * for done: a key or tag that is none, and a store or an invalidation in a segment
 * that was retired.
 */
#include "zoo_door.h"

static const double most_seconds = 1e11; /* three thousand years: no sum overflows */

/* Hashes one tag. False: an exception is set. */
static bool add_tag(const struct door *door, PyObject *tag, bool prefixes, struct zoo_deps *deps)
{
    struct zoo_text text;
    if (!PyUnicode_Check(tag)) {
        zoo_door_raise(door, ZOO_E_TAG, tag);
        return false;
    }
    if (!zoo_door_text(door, tag, &text))
        return false;
    int status =
        memchr(text.at, '\0', (size_t)text.len) != NULL
            ? ZOO_E_TAG
            : zoo_door_core->deps_add_path(door->seg, deps, text.at, (size_t)text.len, prefixes);
    Py_XDECREF(text.encoded);
    if (status != ZOO_OK)
        zoo_door_raise(door, status, tag);
    return status == ZOO_OK;
}

/* Gathers the tags of an entry, any iterable of str or NULL, and hashes that it inherits. */
static bool gather(const struct door *door, PyObject *tags, PyObject *inherited,
                   struct zoo_deps *deps)
{
    bool good = true;
    if (tags != NULL) {
        if (PyUnicode_Check(tags)) {
            zoo_door_raise(door, ZOO_E_TAG, tags);
            return false;
        }
        PyObject *all = PySequence_Tuple(tags); /* a tuple is taken as it is */
        if (all == NULL)
            return false;
        Py_ssize_t n = PyTuple_Size(all);
        for (Py_ssize_t i = 0; i < n && good; i++)
            good = add_tag(door, PyTuple_GetItem(all, i), true, deps);
        Py_DECREF(all);
    }
    if (!good || inherited == Py_None)
        return good;
    char *bytes;
    Py_ssize_t len;
    if (PyBytes_AsStringAndSize(inherited, &bytes, &len) != 0)
        return false;
    if (len % 8 != 0) {
        PyErr_Format(PyExc_ValueError, "deps are hashes of 8 bytes each, not %zd bytes", len);
        return false;
    }
    for (Py_ssize_t i = 0; i < len && good; i += 8) {
        uint64_t hash;
        memcpy(&hash, bytes + i, sizeof hash);
        good = zoo_door_core->deps_add(deps, hash) == ZOO_OK;
    }
    if (!good)
        PyErr_NoMemory();
    return good;
}

/* Stores one value; the outcome, or < 0 with an exception set. */
static int store_one(const struct door *door, int mode, PyObject *key, PyObject *value,
                     uint64_t ttl_ms, struct zoo_deps *deps, uint64_t stamp)
{
    struct zoo_text text;
    char *bytes;
    Py_ssize_t len;
    PyObject *copy = NULL;
    if (PyByteArray_Check(value) || PyMemoryView_Check(value))
        value = copy = PyBytes_FromObject(value);
    else if (!PyBytes_Check(value))
        PyErr_Format(PyExc_TypeError, "a value is bytes, not %R", Py_TYPE(value));
    int outcome = ZOO_E_ARGUMENT;
    if (PyErr_Occurred() == NULL && PyBytes_AsStringAndSize(value, &bytes, &len) == 0 &&
        zoo_door_text(door, key, &text)) {
        outcome = zoo_door_core->store(door->seg, mode, text.at, (size_t)text.len, bytes,
                                       (size_t)len, ttl_ms, deps, stamp);
        Py_XDECREF(text.encoded);
        if (outcome == ZOO_RETIRED && !zoo_door_note_retired(door)) {
            outcome = ZOO_E_MEMORY;
        } else if (outcome < 0 || (outcome == ZOO_RETIRED && mode != ZOO_FILL)) {
            zoo_door_raise(door, outcome, key);
            outcome = ZOO_E_ARGUMENT;
        }
    }
    Py_XDECREF(copy);
    return outcome;
}

/* What the keywords of a store say. */
struct options {
    uint64_t ttl_ms;
    struct zoo_deps deps;
};

/* Seconds as a float or an int, None for no expiry. Rounded up: 0 would mean "for ever". */
static bool take_ttl(PyObject *ttl, uint64_t *ms)
{
    *ms = 0;
    if (ttl == Py_None)
        return true;
    double seconds = PyFloat_AsDouble(ttl);
    if (seconds == -1.0 && PyErr_Occurred())
        return false;
    if (!(seconds < most_seconds)) { /* nor is it "not a number" */
        PyErr_Format(PyExc_ValueError, "a ttl is a number of seconds below 1e11, not %R", ttl);
        return false;
    }
    *ms = seconds * 1000 < 1 ? 1 : (uint64_t)(seconds * 1000);
    return true;
}

/* ttl=, tags= and deps=, behind `n` positional arguments. options->deps must be freed. */
static bool take_options(const struct door *door, PyObject *const *args, Py_ssize_t n,
                         PyObject *names, struct options *options)
{
    PyObject *tags = NULL, *deps = Py_None;
    options->ttl_ms = 0;
    zoo_door_core->deps_start(&options->deps);
    Py_ssize_t named = names == NULL ? 0 : PyTuple_Size(names);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "tags") == 0) {
            tags = args[n + i];
        } else if (PyUnicode_CompareWithASCIIString(name, "ttl") == 0) {
            if (!take_ttl(args[n + i], &options->ttl_ms))
                return false;
        } else if (PyUnicode_CompareWithASCIIString(name, "deps") == 0) {
            deps = args[n + i];
        } else {
            PyErr_Format(PyExc_TypeError, "unexpected keyword argument %R: ttl, tags or deps",
                         name);
            return false;
        }
    }
    return gather(door, tags, deps, &options->deps);
}

/* Stores args[0], a key, and args[1], its value. The outcome, or < 0 with an exception set. */
static int store(const struct door *door, int mode, PyObject *const *args, Py_ssize_t n,
                 Py_ssize_t wanted, PyObject *names)
{
    struct options options;
    uint64_t stamp = 0;
    if (n != wanted) {
        PyErr_Format(PyExc_TypeError, "%zd positional arguments were given, not %zd", n, wanted);
        return ZOO_E_ARGUMENT;
    }
    if (mode == ZOO_FILL) {
        stamp = PyLong_AsUnsignedLongLong(args[2]);
        if (PyErr_Occurred()) {
            PyErr_Clear();
            stamp = UINT64_MAX; /* which is none: a ValueError that says so */
        }
        if (stamp == 0) /* taken from a segment that was retired by then */
            return ZOO_RETIRED;
    }
    int outcome = ZOO_E_ARGUMENT;
    if (take_options(door, args, n, names, &options))
        outcome = store_one(door, mode, args[0], args[1], options.ttl_ms, &options.deps, stamp);
    zoo_door_core->deps_free(&options.deps);
    return outcome;
}

/* The Outcome of that number, borrowed from the tuple that bind() was given. */
static PyObject *outcome_of(const struct door *door, int outcome)
{
    PyObject *member = outcome < 0 ? NULL : PyTuple_GetItem(door->outcomes, outcome);
    Py_XINCREF(member);
    return member;
}

PyObject *zoo_door_set(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    const struct door *door = zoo_door_of(self);
    return outcome_of(door, store(door, ZOO_SET, args, n, 2, names));
}

PyObject *zoo_door_fill(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    const struct door *door = zoo_door_of(self);
    return outcome_of(door, store(door, ZOO_FILL, args, n, 3, names));
}

PyObject *zoo_door_add(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int outcome = store(zoo_door_of(self), ZOO_ADD, args, n, 2, names);
    return outcome < 0 ? NULL : PyBool_FromLong(outcome == ZOO_OK);
}

PyObject *zoo_door_replace(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int outcome = store(zoo_door_of(self), ZOO_REPLACE, args, n, 2, names);
    return outcome < 0 ? NULL : PyBool_FromLong(outcome == ZOO_OK);
}

/* set_many({key: value}, ttl=, tags=) -> {key: outcome} of those not stored */
PyObject *zoo_door_set_many(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    const struct door *door = zoo_door_of(self);
    struct options options;
    if (n != 1 || !PyMapping_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "set_many() takes a dict");
        return NULL;
    }
    /* A copy: another thread, or the code of a key, may change the original meanwhile. */
    PyObject *failed = PyDict_New(), *items = PyDict_New();
    bool good = failed != NULL && items != NULL && PyDict_Update(items, args[0]) == 0;
    zoo_door_core->deps_start(&options.deps);
    good = good && take_options(door, args, n, names, &options);
    PyObject *key, *value;
    for (Py_ssize_t at = 0; good && PyDict_Next(items, &at, &key, &value);) {
        int outcome = store_one(door, ZOO_SET, key, value, options.ttl_ms, &options.deps, 0);
        PyObject *member = outcome == ZOO_OK ? NULL : outcome_of(door, outcome);
        good = outcome == ZOO_OK || (member != NULL && PyDict_SetItem(failed, key, member) == 0);
        Py_XDECREF(member);
    }
    zoo_door_core->deps_free(&options.deps);
    Py_XDECREF(items);
    if (!good)
        Py_CLEAR(failed);
    return failed;
}

/* invalidate(*tags) */
PyObject *zoo_door_invalidate(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    const struct door *door = zoo_door_of(self);
    struct zoo_deps deps;
    struct zoo_name names[ZOO_FEW_DEPS];
    bool good = true;
    zoo_door_core->deps_start(&deps);
    for (Py_ssize_t i = 0; i < n && good; i++) {
        good = add_tag(door, args[i], false, &deps);
        if (good && i < ZOO_FEW_DEPS) { /* the text is cached in the str, which args hold */
            Py_ssize_t len = 0;
            names[i].text = PyUnicode_AsUTF8AndSize(args[i], &len);
            names[i].len = (size_t)len;
            if (names[i].text == NULL)
                PyErr_Clear();
        }
    }
    int outcome = ZOO_OK;
    if (good && n > 0)
        outcome = zoo_door_core->invalidate(door->seg, deps.hash, deps.n,
                                            n <= ZOO_FEW_DEPS ? names : NULL);
    zoo_door_core->deps_free(&deps);
    if (outcome == ZOO_RETIRED && zoo_door_note_retired(door))
        return zoo_door_raise(door, outcome, Py_None);
    if (!good || outcome != ZOO_OK)
        return NULL;
    Py_RETURN_NONE;
}
