/*
 * zoo_door.c - the operations whose own work is shorter than a call through cffi.
 *
 * A get of 100 bytes takes the core some 50 ns. Through cffi its three arguments,
 * the giving up of the GIL and a second call for the bytes cost four times as
 * much. So get, find, store and invalidate have this door of their own: one call
 * in the interpreter's fast convention, the value copied straight into the bytes
 * object that is returned, and the GIL kept, which such a short call would only
 * pass to and fro. All that waits, or is called seldom, goes through cffi.
 *
 * bind() makes the operations of one segment: built-in functions whose `self` is
 * a capsule with the handle and a reference to its owner, so that a function can
 * be kept on its own. No state is shared between calls: threads and signal
 * handlers may come in at any point.
 */
#include "zoo_level.h"

enum { GET_RETRIES = 3 };
static const double most_seconds = 1e11; /* three thousand years: no sum overflows */

/* Of the cffi extension: a process must have one core. Every bind() gives the same. */
static const struct zoo_core *core;

static const char capsule_name[] = "zoocache.shm._door";

/* What the functions of one segment share. */
struct door {
    zoo_seg *seg;
    PyObject *owner;    /* the Segment: keeps the handle open */
    PyObject *on_error; /* (status, key or tag) -> the exception to raise */
    PyObject *outcomes; /* a tuple of Outcome members, by their number */
};

static void close_door(PyObject *capsule)
{
    struct door *door = PyCapsule_GetPointer(capsule, capsule_name);
    Py_XDECREF(door->owner);
    Py_XDECREF(door->on_error);
    Py_XDECREF(door->outcomes);
    PyMem_Free(door);
}

static struct door *door_of(PyObject *self)
{
    return PyCapsule_GetPointer(self, capsule_name);
}

static PyObject *raise_status(const struct door *door, int status, PyObject *about)
{
    PyObject *error = PyObject_CallFunction(door->on_error, "iO", status, about);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

/* The owner is told, so that the next operation opens the name again. */
static bool note_retired(const struct door *door)
{
    PyObject *done = PyObject_CallMethod(door->owner, "note_retired", NULL);
    Py_XDECREF(done);
    return done != NULL;
}

/* Bytes of a key or tag, and what must be let go when they are not needed any more. */
struct text {
    const char *at;
    Py_ssize_t len;
    PyObject *encoded;
};

static bool take_text(const struct door *door, PyObject *object, struct text *text)
{
    text->encoded = NULL;
    if (PyBytes_Check(object)) {
        text->at = PyBytes_AsString(object);
        text->len = PyBytes_Size(object);
        return true;
    }
    if (PyUnicode_Check(object)) {
        text->at = PyUnicode_AsUTF8AndSize(object, &text->len);
        if (text->at != NULL)
            return true;
        PyErr_Clear(); /* lone surrogates name keys, too: file names have them */
        text->encoded = PyUnicode_AsEncodedString(object, "utf-8", "surrogatepass");
    } else if (PyByteArray_Check(object) || PyMemoryView_Check(object)) {
        text->encoded = PyBytes_FromObject(object);
    } else {
        raise_status(door, ZOO_E_KEY, object);
    }
    if (text->encoded == NULL)
        return false;
    text->at = PyBytes_AsString(text->encoded);
    text->len = PyBytes_Size(text->encoded);
    return true;
}

/* What an entry has beside its value. */
struct about {
    PyObject *deps; /* hashes, in bytes */
    uint64_t stamp;
    uint64_t expiry;
};

static bool take_about(const struct zoo_rec *rec, struct about *about)
{
    about->stamp = rec->stamp & ~ZOO_STAMP_EXPLICIT;
    about->expiry = rec->expiry;
    about->deps =
        PyBytes_FromStringAndSize((const char *)zoo_rec_deps(rec), 8 * (Py_ssize_t)rec->n_deps);
    return about->deps != NULL;
}

/*
 * The value of a key as a new bytes object, with what else is asked for; or NULL
 * and what came of it, which is < 0 where an exception is set.
 */
static PyObject *read_value(const struct door *door, PyObject *key, uint64_t grace_ms,
                            struct zoo_hit *hit, struct about *about, int *outcome)
{
    struct text text;
    PyObject *value = NULL;
    *outcome = ZOO_E_MEMORY;
    if (!take_text(door, key, &text))
        return NULL;
    *outcome = ZOO_LAPPED;
    for (int tries = 0; tries < GET_RETRIES && *outcome == ZOO_LAPPED; tries++) {
        *outcome = core->find(door->seg, text.at, (size_t)text.len, hit);
        if (*outcome != ZOO_OK)
            break;
        value = PyBytes_FromStringAndSize(NULL, hit->rec->value_len);
        if (value == NULL || (about != NULL && !take_about(hit->rec, about))) {
            core->close(hit);
            *outcome = ZOO_E_MEMORY;
        } else {
            *outcome = core->take(door->seg, hit, PyBytes_AsString(value), grace_ms);
        }
        if (*outcome != ZOO_OK && *outcome != ZOO_GRACE) {
            Py_CLEAR(value);
            if (about != NULL)
                Py_CLEAR(about->deps);
        }
    }
    Py_XDECREF(text.encoded);
    if (*outcome == ZOO_RETIRED && !note_retired(door))
        *outcome = ZOO_E_MEMORY;
    else if (*outcome == ZOO_E_KEY)
        raise_status(door, ZOO_E_KEY, key);
    return value;
}

/* get(key) -> bytes | None */
static PyObject *get(PyObject *self, PyObject *key)
{
    struct zoo_hit hit;
    int outcome;
    const struct door *door = door_of(self);
    PyObject *value = read_value(door, key, 0, &hit, NULL, &outcome);
    if (value != NULL)
        return value;
    if (outcome < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* find(key, grace_ms) -> (value, dependency hashes, fresh, stamp, expiry in ms) | None */
static PyObject *find(PyObject *self, PyObject *const *args, Py_ssize_t n)
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
    PyObject *value = read_value(door_of(self), args[0], grace_ms, &hit, &about, &outcome);
    if (value != NULL)
        return Py_BuildValue("NNOKK", value, about.deps, outcome == ZOO_OK ? Py_True : Py_False,
                             (unsigned long long)about.stamp, (unsigned long long)about.expiry);
    if (outcome < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* get_many(keys) -> [bytes | None, ...] in the order of the keys */
static PyObject *get_many(PyObject *self, PyObject *keys)
{
    const struct door *door = door_of(self);
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

/* Hashes one tag. False: an exception is set. */
static bool add_tag(const struct door *door, PyObject *tag, bool prefixes, struct zoo_deps *deps)
{
    struct text text;
    if (!PyUnicode_Check(tag)) {
        raise_status(door, ZOO_E_TAG, tag);
        return false;
    }
    if (!take_text(door, tag, &text))
        return false;
    int status = memchr(text.at, '\0', (size_t)text.len) != NULL
                     ? ZOO_E_TAG
                     : core->deps_add_path(door->seg, deps, text.at, (size_t)text.len, prefixes);
    Py_XDECREF(text.encoded);
    if (status != ZOO_OK)
        raise_status(door, status, tag);
    return status == ZOO_OK;
}

/* Gathers the tags of an entry, any iterable of str or NULL, and hashes that it inherits. */
static bool gather(const struct door *door, PyObject *tags, PyObject *inherited,
                   struct zoo_deps *deps)
{
    bool good = true;
    if (tags != NULL) {
        if (PyUnicode_Check(tags)) {
            raise_status(door, ZOO_E_TAG, tags);
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
    for (Py_ssize_t i = 0; i + 8 <= len && good; i += 8) {
        uint64_t hash;
        memcpy(&hash, bytes + i, sizeof hash);
        good = core->deps_add(deps, hash) == ZOO_OK;
    }
    if (!good)
        PyErr_NoMemory();
    return good;
}

/* Stores one value; the outcome, or < 0 with an exception set. */
static int store_one(const struct door *door, int mode, PyObject *key, PyObject *value,
                     uint64_t ttl_ms, struct zoo_deps *deps, uint64_t stamp)
{
    struct text text;
    char *bytes;
    Py_ssize_t len;
    PyObject *copy = NULL;
    if (PyByteArray_Check(value) || PyMemoryView_Check(value))
        value = copy = PyBytes_FromObject(value);
    else if (!PyBytes_Check(value))
        PyErr_Format(PyExc_TypeError, "a value is bytes, not %R", Py_TYPE(value));
    int outcome = ZOO_E_ARGUMENT;
    if (PyErr_Occurred() == NULL && PyBytes_AsStringAndSize(value, &bytes, &len) == 0 &&
        take_text(door, key, &text)) {
        outcome = core->store(door->seg, mode, text.at, (size_t)text.len, bytes, (size_t)len,
                              ttl_ms, deps, stamp);
        Py_XDECREF(text.encoded);
        if (outcome == ZOO_RETIRED && !note_retired(door)) {
            outcome = ZOO_E_MEMORY;
        } else if (outcome < 0 || (outcome == ZOO_RETIRED && mode != ZOO_FILL)) {
            raise_status(door, outcome, key);
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
    core->deps_start(&options->deps);
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
    core->deps_free(&options.deps);
    return outcome;
}

/* The Outcome of that number, borrowed from the tuple that bind() was given. */
static PyObject *outcome_of(const struct door *door, int outcome)
{
    PyObject *member = outcome < 0 ? NULL : PyTuple_GetItem(door->outcomes, outcome);
    Py_XINCREF(member);
    return member;
}

static PyObject *set(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    const struct door *door = door_of(self);
    return outcome_of(door, store(door, ZOO_SET, args, n, 2, names));
}

static PyObject *fill(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    const struct door *door = door_of(self);
    return outcome_of(door, store(door, ZOO_FILL, args, n, 3, names));
}

static PyObject *add(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int outcome = store(door_of(self), ZOO_ADD, args, n, 2, names);
    return outcome < 0 ? NULL : PyBool_FromLong(outcome == ZOO_OK);
}

static PyObject *replace(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    int outcome = store(door_of(self), ZOO_REPLACE, args, n, 2, names);
    return outcome < 0 ? NULL : PyBool_FromLong(outcome == ZOO_OK);
}

/* set_many({key: value}, ttl=, tags=) -> {key: outcome} of those not stored */
static PyObject *set_many(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    const struct door *door = door_of(self);
    struct options options;
    if (n != 1 || !PyMapping_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "set_many() takes a dict");
        return NULL;
    }
    /* A copy: another thread, or the code of a key, may change the original meanwhile. */
    PyObject *failed = PyDict_New(), *items = PyDict_New();
    bool good = failed != NULL && items != NULL && PyDict_Update(items, args[0]) == 0;
    core->deps_start(&options.deps);
    good = good && take_options(door, args, n, names, &options);
    PyObject *key, *value;
    for (Py_ssize_t at = 0; good && PyDict_Next(items, &at, &key, &value);) {
        int outcome = store_one(door, ZOO_SET, key, value, options.ttl_ms, &options.deps, 0);
        PyObject *member = outcome == ZOO_OK ? NULL : outcome_of(door, outcome);
        good = outcome == ZOO_OK || (member != NULL && PyDict_SetItem(failed, key, member) == 0);
        Py_XDECREF(member);
    }
    core->deps_free(&options.deps);
    Py_XDECREF(items);
    if (!good)
        Py_CLEAR(failed);
    return failed;
}

/* invalidate(*tags) */
static PyObject *invalidate(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    const struct door *door = door_of(self);
    struct zoo_deps deps;
    struct zoo_name names[ZOO_FEW_DEPS];
    bool good = true;
    core->deps_start(&deps);
    for (Py_ssize_t i = 0; i < n && good; i++) {
        good = add_tag(door, args[i], false, &deps);
        if (good && i < ZOO_FEW_DEPS) { /* the text is cached in the str, which args hold */
            Py_ssize_t len = 0;
            names[i].text = PyUnicode_AsUTF8AndSize(args[i], &len);
            if (names[i].text == NULL) {
                PyErr_Clear();
                len = 0; /* from CPython 3.13 on it is -1 then */
            }
            names[i].len = (size_t)len;
        }
    }
    int outcome = ZOO_OK;
    if (good && n > 0)
        outcome = core->invalidate(door->seg, deps.hash, deps.n, n <= ZOO_FEW_DEPS ? names : NULL);
    core->deps_free(&deps);
    if (outcome == ZOO_RETIRED && note_retired(door))
        return raise_status(door, outcome, Py_None);
    if (!good || outcome != ZOO_OK)
        return NULL;
    Py_RETURN_NONE;
}

/* The casts are what CPython asks for: METH_FASTCALL functions are kept as PyCFunction. */
#define FAST(f) ((PyCFunction)(void (*)(void))(f))
static PyMethodDef operations[] = {
    {"get", get, METH_O, "get(key) -> bytes | None"},
    {"find", FAST(find), METH_FASTCALL,
     "find(key, grace_ms) -> (value, deps, fresh, stamp, expiry_ms) | None"},
    {"get_many", get_many, METH_O, "get_many(keys) -> [bytes | None, ...]"},
    {"set", FAST(set), METH_FASTCALL | METH_KEYWORDS,
     "set(key, value, *, ttl=None, tags=()) -> Outcome"},
    {"fill", FAST(fill), METH_FASTCALL | METH_KEYWORDS,
     "fill(key, value, stamp, *, ttl=None, tags=(), deps=b'') -> Outcome"},
    {"add", FAST(add), METH_FASTCALL | METH_KEYWORDS,
     "add(key, value, *, ttl=None, tags=()) -> bool"},
    {"replace", FAST(replace), METH_FASTCALL | METH_KEYWORDS,
     "replace(key, value, *, ttl=None, tags=()) -> bool"},
    {"set_many", FAST(set_many), METH_FASTCALL | METH_KEYWORDS,
     "set_many({key: value}, *, ttl=None, tags=()) -> {key: Outcome}"},
    {"invalidate", FAST(invalidate), METH_FASTCALL, "invalidate(*tags)"},
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

/* bind(zoo_core(), address of a zoo_seg, its owner, on_error, outcomes) -> {name: operation} */
static PyObject *bind(PyObject *module, PyObject *args)
{
    unsigned long long table, address;
    PyObject *owner, *on_error, *outcomes;
    (void)module;
    if (!PyArg_ParseTuple(args, "KKOOO!", &table, &address, &owner, &on_error, &PyTuple_Type,
                          &outcomes))
        return NULL;
    core = (const struct zoo_core *)(uintptr_t)table;
    struct door *door = PyMem_Malloc(sizeof *door);
    if (door == NULL)
        return PyErr_NoMemory();
    *door = (struct door){(zoo_seg *)(uintptr_t)address, owner, on_error, outcomes};
    Py_INCREF(owner);
    Py_INCREF(on_error);
    Py_INCREF(outcomes);
    PyObject *capsule = PyCapsule_New(door, capsule_name, close_door);
    PyObject *bound = capsule == NULL ? NULL : PyDict_New();
    for (int i = 0; i < OPERATIONS && bound != NULL; i++) {
        PyObject *function = PyCFunction_NewEx(&operations[i], capsule, NULL);
        if (function == NULL || PyDict_SetItemString(bound, operations[i].ml_name, function) != 0)
            Py_CLEAR(bound);
        Py_XDECREF(function);
    }
    Py_XDECREF(capsule);
    return bound;
}

static PyMethodDef functions[] = {
    {"bind", bind, METH_VARARGS,
     "bind(core, address, owner, on_error, outcomes) -> {name: operation}"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, zoo_level_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                 "zoocache.shm._door",
                                 "The hot operations of a segment.",
                                 (Py_ssize_t)sizeof(struct types),
                                 functions,
                                 slots,
                                 zoo_level_traverse,
                                 zoo_level_clear,
                                 NULL};

PyMODINIT_FUNC PyInit__door(void)
{
    return PyModuleDef_Init(&definition);
}
