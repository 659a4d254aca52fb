/*
 * zoo_memo.c - a Memo: a callable around a Python function that looks for the
 * result of a call among the process's copies first, by the call's arguments.
 *
 * A hit is one call: are the arguments plain, is nobody in the process busy with
 * what makes copies unfit (a transaction, say), is the copy still good. Whatever
 * else there is to say about a call, the function says, which also gives the Memo
 * what to keep. A Gate tells all Memos whether there is a level to serve from.
 */
#include "zoo_level.h"

/* What says whether copies may be served at all, in this process. */
struct gate {
    PyObject_HEAD struct level *level; /* NULL: no */
    PyObject *busy; /* a set; while there is anything in it, a Memo calls its function */
};

struct memo {
    PyObject_HEAD PyObject *function, *bind, *gate;
    struct map *map; /* NULL: nothing kept yet */
    PyObject *dict, *weak;
};

/* The gate */

static PyObject *gate_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *busy;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O", &busy))
        return NULL;
    if (!PySet_Check(busy)) {
        PyErr_SetString(PyExc_TypeError, "Gate() takes a set");
        return NULL;
    }
    struct gate *gate = new_object(type);
    if (gate == NULL)
        return NULL;
    Py_INCREF(busy);
    gate->busy = busy;
    return (PyObject *)gate;
}

static void gate_dealloc(PyObject *self)
{
    struct gate *gate = (struct gate *)self;
    Py_XDECREF(gate->level);
    Py_XDECREF(gate->busy);
    free_object(self);
}

static PyObject *gate_open(PyObject *self, PyObject *level)
{
    struct gate *gate = (struct gate *)self;
    if (level != Py_None && Py_TYPE(level) != types_of(self)->level) {
        PyErr_SetString(PyExc_TypeError, "open() takes a Level or None");
        return NULL;
    }
    struct level *before = gate->level;
    gate->level = NULL;
    if (level != Py_None) {
        Py_INCREF(level);
        gate->level = (struct level *)level;
    }
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static PyMethodDef gate_methods[] = {
    {"open", gate_open, METH_O, "open(level): copies of this level may be served; None: none"},
    {NULL, NULL, 0, NULL}};
static PyMemberDef gate_members[] = {
    {"level", T_OBJECT, offsetof(struct gate, level), READONLY, "the Level to serve from, or None"},
    {"busy", T_OBJECT, offsetof(struct gate, busy), READONLY, "what keeps Memos from serving"},
    {NULL, 0, 0, 0, NULL}};
static PyType_Slot gate_slots[] = {{Py_tp_new, gate_new},
                                   {Py_tp_dealloc, gate_dealloc},
                                   {Py_tp_methods, gate_methods},
                                   {Py_tp_members, gate_members},
                                   {Py_tp_doc, "Says whether copies may be served."},
                                   {0, NULL}};
PyType_Spec zoo_gate_spec = {"zoocache.shm._door.Gate", sizeof(struct gate), 0, Py_TPFLAGS_DEFAULT,
                             gate_slots};

/* Memos */

/* Equal values of these types are the same value: nothing of the caller's decides. */
static bool is_plain(PyObject *argument)
{
    return argument == Py_None || PyUnicode_CheckExact(argument) || PyLong_CheckExact(argument) ||
           PyBytes_CheckExact(argument) || PyBool_Check(argument);
}

/* What names a call, borrowed: its only argument, or all; NULL if they are not plain. */
static PyObject *name_of(PyObject *args)
{
    Py_ssize_t n = PyTuple_Size(args);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (!is_plain(PyTuple_GetItem(args, i)))
            return NULL;
    }
    return n == 1 ? PyTuple_GetItem(args, 0) : args;
}

/* Of equal names: 1 == True. */
static bool same_types(PyObject *one, PyObject *other)
{
    if (Py_TYPE(one) != Py_TYPE(other))
        return false;
    for (Py_ssize_t i = 0, n = PyTuple_Check(one) ? PyTuple_Size(one) : 0; i < n; i++) {
        if (Py_TYPE(PyTuple_GetItem(one, i)) != Py_TYPE(PyTuple_GetItem(other, i)))
            return false;
    }
    return true;
}

/* What is kept of a call and may be served, a new reference, or NULL. */
static struct entry *kept(const struct memo *memo, PyObject *args)
{
    struct map *map = memo->map;
    if (map == NULL || map->level != ((const struct gate *)memo->gate)->level)
        return NULL;
    PyObject *name = name_of(args);
    if (name == NULL)
        return NULL;
    Py_INCREF(map);
    struct entry *entry = zoo_level_look(map, name);
    if (entry != NULL && !(same_types(entry->key, name) && zoo_level_serve(map, name, entry)))
        Py_CLEAR(entry);
    Py_DECREF(map);
    return entry;
}

/* The value that a call gave before, a new reference, or NULL: it must be made. */
PyObject *zoo_memo_get(PyObject *self, PyObject *args)
{
    const struct memo *memo = (const struct memo *)self;
    if (!PyTuple_CheckExact(args) || PySet_Size(((const struct gate *)memo->gate)->busy) != 0)
        return NULL;
    struct entry *entry = kept(memo, args);
    PyObject *value = entry == NULL ? NULL : entry->value;
    Py_XINCREF(value);
    Py_XDECREF((PyObject *)entry);
    return value;
}

/* get(args) -> value | None */
static PyObject *memo_get(PyObject *self, PyObject *args)
{
    PyObject *value = zoo_memo_get(self, args);
    if (value == NULL)
        Py_RETURN_NONE;
    return value;
}

/* find(args) -> (value, dependency hashes, stamp) | None: also while somebody is busy */
static PyObject *memo_find(PyObject *self, PyObject *args)
{
    struct entry *entry = PyTuple_CheckExact(args) ? kept((struct memo *)self, args) : NULL;
    if (entry == NULL)
        Py_RETURN_NONE;
    PyObject *found = zoo_level_shown(entry);
    Py_DECREF(entry);
    return found;
}

static PyObject *memo_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    const struct memo *memo = (const struct memo *)self;
    if (kwargs == NULL || PyDict_Size(kwargs) == 0) {
        PyObject *value = zoo_memo_get(self, args);
        if (value != NULL)
            return value;
    }
    return PyObject_Call(memo->function, args, kwargs);
}

/* Memo(function, gate, types.MethodType) */
static PyObject *memo_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *function, *gate, *bind;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOO", &function, &gate, &bind))
        return NULL;
    struct types *types = zoo_level_state(PyType_GetModule(type));
    if (Py_TYPE(gate) != types->gate) {
        PyErr_SetString(PyExc_TypeError, "Memo() takes a Gate");
        return NULL;
    }
    struct memo *memo = new_object(type);
    if (memo == NULL)
        return NULL;
    Py_INCREF(function);
    Py_INCREF(gate);
    Py_INCREF(bind);
    memo->function = function;
    memo->gate = gate;
    memo->bind = bind;
    return (PyObject *)memo;
}

static int memo_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct memo *memo = (struct memo *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(memo->function);
    Py_VISIT(memo->bind);
    Py_VISIT(memo->dict);
    return 0;
}

static int memo_clear(PyObject *self)
{
    struct memo *memo = (struct memo *)self;
    Py_CLEAR(memo->dict);
    return 0; /* the function stays: a finalizer may still call this */
}

static void memo_dealloc(PyObject *self)
{
    struct memo *memo = (struct memo *)self;
    PyObject_GC_UnTrack(self);
    if (memo->weak != NULL)
        PyObject_ClearWeakRefs(self);
    Py_XDECREF(memo->function);
    Py_XDECREF(memo->bind);
    Py_XDECREF(memo->gate);
    Py_XDECREF(memo->map);
    Py_XDECREF(memo->dict);
    free_object(self);
}

/* In a class body it makes methods, as a function does. */
static PyObject *memo_bind(PyObject *self, PyObject *instance, PyObject *owner)
{
    (void)owner;
    if (instance == NULL || instance == Py_None) {
        Py_INCREF(self);
        return self;
    }
    return PyObject_CallFunctionObjArgs(((struct memo *)self)->bind, self, instance, NULL);
}

/* Pickled by name, as functions are. */
static PyObject *memo_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyObject_GetAttrString(self, "__qualname__");
}

/* The memo's own map, of the same level as another; NULL: an exception is set. */
static struct map *map_beside(struct memo *memo, struct map *other)
{
    if (memo->map == NULL || memo->map->level != other->level) {
        PyObject *made = zoo_level_map((PyObject *)other->level, NULL);
        PyObject *before = (PyObject *)memo->map;
        memo->map = (struct map *)made;
        Py_XDECREF(before);
    }
    return memo->map;
}

/*
 * _keep(args, value, map, entry's key, deps, stamp, expiry, bytes, site): what a call
 * gives from now on. The map is any of the level that the entry was read through.
 */
static PyObject *memo_keep(PyObject *self, PyObject *args)
{
    PyObject *call, *value, *other, *name, *rest;
#ifdef Py_GIL_DISABLED
    Py_RETURN_FALSE;
#endif
    if (PyTuple_Size(args) < 4 || !PyTuple_CheckExact(call = PyTuple_GetItem(args, 0)) ||
        Py_TYPE(other = PyTuple_GetItem(args, 2)) != types_of(self)->map) {
        PyErr_SetString(PyExc_TypeError, "_keep(args, value, map, ...)");
        return NULL;
    }
    name = name_of(call);
    if (name == NULL || ((struct map *)other)->level->seg == NULL)
        Py_RETURN_FALSE;
    value = PyTuple_GetItem(args, 1);
    struct map *map = map_beside((struct memo *)self, (struct map *)other);
    if (map == NULL || (rest = PyTuple_GetSlice(args, 3, PyTuple_Size(args))) == NULL)
        return NULL;
    Py_INCREF(map);
    PyObject *done = zoo_level_put(map, name, value, rest);
    Py_DECREF(map);
    Py_DECREF(rest);
    return done;
}

static PyMethodDef memo_methods[] = {
    {"get", memo_get, METH_O, "get(args) -> what the call gave, or None where it must be made"},
    {"find", memo_find, METH_O,
     "find(args) -> (value, deps, stamp) | None, also while somebody is busy"},
    {"_keep", memo_keep, METH_VARARGS,
     "_keep(args, value, map, entry_key, deps, stamp, expiry_ms, bytes) -> bool"},
    {"__reduce__", memo_reduce, METH_NOARGS, "its qualified name"},
    {NULL, NULL, 0, NULL}};
static PyMemberDef memo_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(struct memo, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct memo, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};
static PyGetSetDef memo_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot memo_slots[] = {{Py_tp_new, memo_new},
                                   {Py_tp_dealloc, memo_dealloc},
                                   {Py_tp_traverse, memo_traverse},
                                   {Py_tp_clear, memo_clear},
                                   {Py_tp_call, memo_call},
                                   {Py_tp_descr_get, memo_bind},
                                   {Py_tp_methods, memo_methods},
                                   {Py_tp_members, memo_members},
                                   {Py_tp_getset, memo_getset},
                                   {Py_tp_doc, "A function whose results are remembered."},
                                   {0, NULL}};
PyType_Spec zoo_memo_spec = {"zoocache.shm._door.Memo", sizeof(struct memo), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, memo_slots};
