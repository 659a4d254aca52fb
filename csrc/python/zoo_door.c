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
 * handlers may come in at any point. zoo_door_read.c and zoo_door_write.c have the
 * operations; here is what they are bound to.
 */
#include "zoo_door.h"
#include "zoo_level.h"

const struct zoo_core *zoo_door_core;

static const char capsule_name[] = "zoocache.shm._door";

static void free_door(struct door *door)
{
    Py_DECREF(door->owner);
    Py_DECREF(door->on_error);
    Py_DECREF(door->outcomes);
    Py_DECREF((PyObject *)door->intent);
    PyMem_Free(door);
}

static void close_door(PyObject *capsule)
{
    free_door(PyCapsule_GetPointer(capsule, capsule_name));
}

struct door *zoo_door_of(PyObject *self)
{
    return PyCapsule_GetPointer(self, capsule_name);
}

PyObject *zoo_door_raise(const struct door *door, int status, PyObject *about)
{
    PyObject *error = PyObject_CallFunction(door->on_error, "iO", status, about);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

bool zoo_door_note_retired(const struct door *door)
{
    PyObject *done = PyObject_CallMethod(door->owner, "note_retired", NULL);
    Py_XDECREF(done);
    return done != NULL;
}

bool zoo_door_text(const struct door *door, PyObject *object, struct zoo_text *text)
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
        zoo_door_raise(door, ZOO_E_KEY, object);
    }
    if (text->encoded == NULL)
        return false;
    text->at = PyBytes_AsString(text->encoded);
    text->len = PyBytes_Size(text->encoded);
    return true;
}

/* The casts are what CPython asks for: METH_FASTCALL functions are kept as PyCFunction. */
#define FAST(f) ((PyCFunction)(void (*)(void))(f))
static PyMethodDef operations[] = {
    {"get", zoo_door_get, METH_O, "get(key) -> bytes | None"},
    {"find", FAST(zoo_door_find), METH_FASTCALL,
     "find(key, grace_ms) -> (value, deps, fresh, stamp, expiry_ms) | None"},
    {"get_many", zoo_door_get_many, METH_O, "get_many(keys) -> [bytes | None, ...]"},
    {"set", FAST(zoo_door_set), METH_FASTCALL | METH_KEYWORDS,
     "set(key, value, *, ttl=None, tags=()) -> Outcome"},
    {"fill", FAST(zoo_door_fill), METH_FASTCALL | METH_KEYWORDS,
     "fill(key, value, stamp, *, ttl=None, tags=(), deps=b'') -> Outcome"},
    {"add", FAST(zoo_door_add), METH_FASTCALL | METH_KEYWORDS,
     "add(key, value, *, ttl=None, tags=()) -> bool"},
    {"replace", FAST(zoo_door_replace), METH_FASTCALL | METH_KEYWORDS,
     "replace(key, value, *, ttl=None, tags=()) -> bool"},
    {"set_many", FAST(zoo_door_set_many), METH_FASTCALL | METH_KEYWORDS,
     "set_many({key: value}, *, ttl=None, tags=()) -> {key: Outcome}"},
    {"invalidate", FAST(zoo_door_invalidate), METH_FASTCALL, "invalidate(*tags)"},
    {"intent", zoo_door_intent, METH_NOARGS, "intent() -> Intent"},
    {"announce", FAST(zoo_door_announce), METH_FASTCALL,
     "announce(list, tags, session, quarantine) -> bool: is the segment not retired?"},
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

/* bind(zoo_core(), address of a zoo_seg, its owner, on_error, outcomes) -> {name: operation} */
static PyObject *bind(PyObject *module, PyObject *args)
{
    unsigned long long table, address;
    PyObject *owner, *on_error, *outcomes;
    PyTypeObject *intent = ((struct types *)zoo_level_state(module))->intent;
    if (!PyArg_ParseTuple(args, "KKOOO!", &table, &address, &owner, &on_error, &PyTuple_Type,
                          &outcomes))
        return NULL;
    zoo_door_core = (const struct zoo_core *)(uintptr_t)table;
    struct door *door = PyMem_Malloc(sizeof *door);
    if (door == NULL)
        return PyErr_NoMemory();
    *door = (struct door){(zoo_seg *)(uintptr_t)address, owner, on_error, outcomes, intent};
    Py_INCREF(owner);
    Py_INCREF(on_error);
    Py_INCREF(outcomes);
    Py_INCREF((PyObject *)intent);
    PyObject *capsule = PyCapsule_New(door, capsule_name, close_door);
    if (capsule == NULL) {
        free_door(door);
        return NULL;
    }
    PyObject *bound = PyDict_New();
    for (int i = 0; i < OPERATIONS && bound != NULL; i++) {
        PyObject *function = PyCFunction_NewEx(&operations[i], capsule, NULL);
        if (function == NULL || PyDict_SetItemString(bound, operations[i].ml_name, function) != 0)
            Py_CLEAR(bound);
        Py_XDECREF(function);
    }
    Py_DECREF(capsule);
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
