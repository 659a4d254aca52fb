/*
 * zoo_level.c - the process-local level: values that this process has decoded.
 *
 * A Level belongs to one segment and bounds what all its Maps keep together, in
 * entries and in bytes. A Map finds a value by any hashable key and serves it
 * only if zoo_local.c says that a get would. A Memo is a callable around a
 * Python function that looks into a Map first, keyed by the call's arguments.
 *
 * Bounded by generations: a Map has a young and an old dict. A hit in the old
 * one moves the entry to the young one; when the young ones of all Maps hold half
 * of the bound, they become the old ones, and those are dropped. So what was
 * used since the last turn stays.
 *
 * Values must be immutable: every caller gets the same object. Nothing here runs
 * Python code while it holds a borrowed reference; but an allocation may run
 * finalizers, which may come in again, or close the level: so the handle is looked
 * at after the last one. The GIL guards all of it; a build without one keeps nothing.
 *
 * A closed level has let go of its segment and of all values, whoever still holds
 * a Map of it: a function that is not called any more would keep them for ever.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "zoo_layout.h"
#include "zoo_level.h"

/* One of so many hits of a copy goes to the segment, or what is hot here would be evicted there. */
enum { RENEW_EVERY = 1024, COUNT_EVERY = 64 };

struct map;

struct level {
    PyObject_HEAD const struct zoo_core *core;
    zoo_seg *seg;    /* NULL: closed */
    PyObject *owner; /* the Segment: keeps the handle open; NULL: closed */
    Py_ssize_t most_entries, most_bytes;
    Py_ssize_t entries, bytes; /* in the young dicts */
    uint64_t hits;             /* not counted in the segment yet */
    struct map *maps;          /* all of its Maps, each of which holds it */
};

struct map {
    PyObject_HEAD struct level *level;
    struct map *next, **link; /* link: what points to this one */
    PyObject *young, *old;    /* key -> struct entry; NULL where empty */
};

struct entry {
    PyObject_HEAD PyObject *key; /* as it was when the value was kept */
    PyObject *value;
    Py_ssize_t bytes;
    unsigned hits;
    struct zoo_copy copy;
};

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

/* The types, of one interpreter. */
struct types {
    PyTypeObject *level, *map, *entry, *gate, *memo;
};

_Static_assert(sizeof(struct types) == ZOO_LEVEL_STATE, "what the module makes room for");

static struct types *types_of(PyObject *self)
{
    return zoo_level_state(PyType_GetModule(Py_TYPE(self)));
}

static void *new_object(PyTypeObject *type)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return alloc(type, 0);
}

static void free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Entries */

static void entry_dealloc(PyObject *self)
{
    struct entry *entry = (struct entry *)self;
    Py_XDECREF(entry->key);
    Py_XDECREF(entry->value);
    PyMem_Free(entry->copy.deps);
    free_object(self);
}

static PyType_Slot entry_slots[] = {
    {Py_tp_dealloc, entry_dealloc}, {Py_tp_doc, "What a Map keeps of one entry."}, {0, NULL}};
static PyType_Spec entry_spec = {"zoocache.shm._door.Entry", sizeof(struct entry), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                 entry_slots};

/* Levels */

/* Level(core, address of a zoo_seg, its owner, most_entries, most_bytes) */
static PyObject *level_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    unsigned long long table, address;
    PyObject *owner;
    Py_ssize_t entries, bytes;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "KKOnn", &table, &address, &owner, &entries, &bytes))
        return NULL;
    struct level *level = new_object(type);
    if (level == NULL)
        return NULL;
    level->core = (const struct zoo_core *)(uintptr_t)table;
    level->seg = (zoo_seg *)(uintptr_t)address;
    Py_INCREF(owner);
    level->owner = owner;
    level->most_entries = entries;
    level->most_bytes = bytes;
    return (PyObject *)level;
}

static void count_hits(struct level *level)
{
    if (level->seg != NULL)
        level->core->local_count(level->seg, level->hits);
    level->hits = 0;
}

static void level_dealloc(PyObject *self)
{
    struct level *level = (struct level *)self; /* no Map is left: each holds its level */
    count_hits(level);
    Py_XDECREF(level->owner);
    free_object(self);
}

static PyObject *level_count(PyObject *self, PyObject *unused)
{
    (void)unused;
    count_hits((struct level *)self);
    Py_RETURN_NONE;
}

/* Drops what the old dicts have. No allocation: that could run finalizers that change the list. */
static void turn(struct level *level)
{
    for (struct map *map = level->maps; map != NULL; map = map->next) {
        PyObject *dropped = map->old;
        map->old = map->young;
        map->young = NULL;
        Py_XDECREF(dropped); /* of immutable values: no code of theirs runs */
    }
    level->entries = level->bytes = 0;
}

/* Makes room for one more. */
static void turn_over(struct level *level, Py_ssize_t bytes)
{
    if (level->entries >= level->most_entries / 2 || level->bytes + bytes > level->most_bytes / 2)
        turn(level);
}

/* close(counted): lets go of everything. In a forked child its hits are the parent's to count. */
static PyObject *level_close(PyObject *self, PyObject *counted)
{
    struct level *level = (struct level *)self;
    PyObject *owner = level->owner;
    if (counted == Py_True)
        count_hits(level);
    level->hits = 0;
    level->seg = NULL;
    level->owner = NULL;
    turn(level);
    turn(level);
    Py_XDECREF(owner); /* last: the segment's finalizer may run */
    Py_RETURN_NONE;
}

static PyObject *level_map(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct level *level = (struct level *)self;
    struct map *map = new_object(types_of(self)->map);
    if (map == NULL)
        return NULL;
    Py_INCREF(self);
    map->level = level;
    map->next = level->maps;
    map->link = &level->maps;
    if (map->next != NULL)
        map->next->link = &map->next;
    level->maps = map;
    return (PyObject *)map;
}

static Py_ssize_t held_by(PyObject *dict)
{
    return dict == NULL ? 0 : PyDict_Size(dict);
}

static PyObject *level_len(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_ssize_t n = 0;
    for (struct map *map = ((struct level *)self)->maps; map != NULL; map = map->next)
        n += held_by(map->young) + held_by(map->old);
    return PyLong_FromSsize_t(n);
}

static PyMethodDef level_methods[] = {
    {"map", level_map, METH_NOARGS, "map() -> Map: an empty one"},
    {"count", level_count, METH_NOARGS, "count(): its hits are in the segment's statistics now"},
    {"close", level_close, METH_O, "close(counted): nothing is kept or served any more"},
    {"held", level_len, METH_NOARGS, "held() -> int: entries in all its maps"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot level_slots[] = {{Py_tp_new, level_new},
                                    {Py_tp_dealloc, level_dealloc},
                                    {Py_tp_methods, level_methods},
                                    {Py_tp_doc, "The process-local copies of one segment."},
                                    {0, NULL}};
static PyType_Spec level_spec = {"zoocache.shm._door.Level", sizeof(struct level), 0,
                                 Py_TPFLAGS_DEFAULT, level_slots};

/* Maps */

static void map_dealloc(PyObject *self)
{
    struct map *map = (struct map *)self;
    *map->link = map->next;
    if (map->next != NULL)
        map->next->link = map->link;
    Py_XDECREF(map->young);
    Py_XDECREF(map->old);
    Py_DECREF(map->level);
    free_object(self);
}

/* Puts an entry into the young dict. False: an exception is set. */
static bool keep(struct map *map, PyObject *key, struct entry *entry)
{
    struct level *level = map->level;
    turn_over(level, entry->bytes);
    if (map->young == NULL) {
        PyObject *made = PyDict_New(); /* may run finalizers, and they this */
        if (map->young == NULL)
            map->young = made;
        else
            Py_XDECREF(made);
        if (map->young == NULL)
            return false;
    }
    if (PyDict_SetItem(map->young, key, (PyObject *)entry) != 0)
        return false;
    level->entries++; /* of a key that was there, too: the turn comes a little early */
    level->bytes += entry->bytes;
    return true;
}

/* The entry of a key, a new reference, or NULL; an exception is none: then nothing is found. */
static struct entry *look(struct map *map, PyObject *key)
{
    PyObject *found = map->young == NULL ? NULL : PyDict_GetItemWithError(map->young, key);
    if (found != NULL) {
        Py_INCREF(found);
    } else if (map->old != NULL && !PyErr_Occurred()) {
        found = PyDict_GetItemWithError(map->old, key);
        if (found != NULL) {
            Py_INCREF(found);
            if (!keep(map, key, (struct entry *)found))
                PyErr_Clear();
        }
    }
    PyErr_Clear(); /* a key that cannot be hashed */
    return (struct entry *)found;
}

static void drop(struct map *map, PyObject *key)
{
    if (map->young != NULL && PyDict_DelItem(map->young, key) != 0)
        PyErr_Clear();
    if (map->old != NULL && PyDict_DelItem(map->old, key) != 0)
        PyErr_Clear();
}

/* May what was found be served now? Else it is dropped. */
static bool serve(struct map *map, PyObject *key, struct entry *entry)
{
    struct level *level = map->level;
    if (level->seg == NULL)
        return false;
    if (++entry->hits % RENEW_EVERY != 0 &&
        (zoo_local_quiet(level->seg, &entry->copy) ||
         level->core->local_verify(level->seg, &entry->copy) == ZOO_OK)) {
        if (++level->hits % COUNT_EVERY == 0)
            count_hits(level);
        return true;
    }
    drop(map, key);
    return false;
}

/* The entry of a key if it may be served; a new reference, or NULL. */
static struct entry *get(struct map *map, PyObject *key)
{
    struct entry *entry = look(map, key);
    if (entry != NULL && !serve(map, key, entry))
        Py_CLEAR(entry);
    return entry;
}

static PyObject *map_get(PyObject *self, PyObject *key)
{
    struct entry *entry = get((struct map *)self, key);
    if (entry == NULL)
        Py_RETURN_NONE;
    PyObject *value = entry->value;
    Py_INCREF(value);
    Py_DECREF(entry);
    return value;
}

/* find(key) -> (value, dependency hashes, stamp) | None */
static PyObject *map_find(PyObject *self, PyObject *key)
{
    struct entry *entry = get((struct map *)self, key);
    if (entry == NULL)
        Py_RETURN_NONE;
    PyObject *found =
        Py_BuildValue("Oy#K", entry->value, (char *)entry->copy.deps,
                      8 * (Py_ssize_t)entry->copy.n_deps, (unsigned long long)entry->copy.stamp);
    Py_DECREF(entry);
    return found;
}

/* What is kept of an entry; `args` is what it is verified by. NULL: an exception is set. */
static struct entry *make_entry(struct map *map, PyObject *key, PyObject *value, PyObject *args)
{
    struct level *level = map->level;
    const char *name, *deps;
    Py_ssize_t name_len, deps_len, bytes;
    unsigned long long stamp, expiry;
    if (!PyArg_ParseTuple(args, "y#y#KKn", &name, &name_len, &deps, &deps_len, &stamp, &expiry,
                          &bytes))
        return NULL;
    struct entry *entry = new_object(types_of((PyObject *)map)->entry);
    if (entry == NULL)
        return NULL;
    Py_INCREF(key);
    Py_INCREF(value);
    entry->key = key;
    entry->value = value;
    entry->bytes = bytes;
    entry->copy =
        (struct zoo_copy){.stamp = stamp,
                          .expiry = expiry,
                          .key_hash = level->core->local_hash(level->seg, name, (size_t)name_len),
                          .n_deps = (uint64_t)deps_len / 8,
                          .deps = PyMem_Malloc((size_t)deps_len + 1)};
    if (entry->copy.deps == NULL) {
        Py_DECREF(entry);
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(entry->copy.deps, deps, (size_t)deps_len);
    return entry;
}

static PyObject *put(struct map *map, PyObject *key, PyObject *value, PyObject *args)
{
    struct level *level = map->level;
    if (level->seg == NULL)
        Py_RETURN_FALSE;
    struct entry *entry = make_entry(map, key, value, args);
    if (entry == NULL)
        return NULL;
    bool kept = entry->bytes <= level->most_bytes / 2 && level->most_entries > 1 &&
                level->core->local_verify(level->seg, &entry->copy) == ZOO_OK &&
                keep(map, key, entry);
    Py_DECREF(entry);
    /* Without memory, or where equal hashes of str and bytes are an error (-bb), it is not kept. */
    PyErr_Clear();
    return PyBool_FromLong(kept);
}

/* put(key, value, entry's key, its dependency hashes, its stamp, its expiry, bytes) -> bool */
static PyObject *map_put(PyObject *self, PyObject *args)
{
#ifdef Py_GIL_DISABLED
    Py_RETURN_FALSE;
#endif
    if (PyTuple_Size(args) < 2) {
        PyErr_SetString(PyExc_TypeError, "put() takes a key, a value and what it is verified by");
        return NULL;
    }
    PyObject *rest = PyTuple_GetSlice(args, 2, PyTuple_Size(args));
    if (rest == NULL)
        return NULL;
    PyObject *done =
        put((struct map *)self, PyTuple_GetItem(args, 0), PyTuple_GetItem(args, 1), rest);
    Py_DECREF(rest);
    return done;
}

static PyMethodDef map_methods[] = {
    {"get", map_get, METH_O, "get(key) -> value | None"},
    {"find", map_find, METH_O, "find(key) -> (value, deps, stamp) | None"},
    {"put", map_put, METH_VARARGS,
     "put(key, value, entry_key, deps, stamp, expiry_ms, bytes) -> bool: was it still good?"},
    {NULL, NULL, 0, NULL}};
static PyMemberDef map_members[] = {
    {"level", T_OBJECT, offsetof(struct map, level), READONLY, "whose it is"},
    {NULL, 0, 0, 0, NULL}};
static PyType_Slot map_slots[] = {{Py_tp_dealloc, map_dealloc},
                                  {Py_tp_methods, map_methods},
                                  {Py_tp_members, map_members},
                                  {Py_tp_doc, "Copies of entries, by keys of the caller's."},
                                  {0, NULL}};
static PyType_Spec map_spec = {"zoocache.shm._door.Map", sizeof(struct map), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, map_slots};

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
static PyType_Spec gate_spec = {"zoocache.shm._door.Gate", sizeof(struct gate), 0,
                                Py_TPFLAGS_DEFAULT, gate_slots};

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

/* The value that a call gave before, a new reference, or NULL: it must be made. */
static PyObject *remembered(const struct memo *memo, PyObject *args)
{
    const struct gate *gate = (const struct gate *)memo->gate;
    struct map *map = memo->map;
    if (map == NULL || map->level != gate->level || PySet_Size(gate->busy) != 0)
        return NULL;
    PyObject *name = name_of(args), *value = NULL;
    if (name == NULL)
        return NULL;
    Py_INCREF(map);
    struct entry *entry = look(map, name);
    if (entry != NULL && same_types(entry->key, name) && serve(map, name, entry)) {
        value = entry->value;
        Py_INCREF(value);
    }
    Py_XDECREF((PyObject *)entry);
    Py_DECREF(map);
    return value;
}

static PyObject *memo_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    const struct memo *memo = (const struct memo *)self;
    if (kwargs == NULL || PyDict_Size(kwargs) == 0) {
        PyObject *value = remembered(memo, args);
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
        PyObject *made = level_map((PyObject *)other->level, NULL);
        PyObject *before = (PyObject *)memo->map;
        memo->map = (struct map *)made;
        Py_XDECREF(before);
    }
    return memo->map;
}

/*
 * _keep(args, value, map, entry's key, deps, stamp, expiry, bytes): what a call
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
    PyObject *done = put(map, name, value, rest);
    Py_DECREF(map);
    Py_DECREF(rest);
    return done;
}

static PyMethodDef memo_methods[] = {
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
static PyType_Spec memo_spec = {"zoocache.shm._door.Memo", sizeof(struct memo), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, memo_slots};

/* The module's part */

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, bool is_public)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && is_public && PyModule_AddType(module, (PyTypeObject *)type) != 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

int zoo_level_exec(PyObject *module)
{
    struct types *types = zoo_level_state(module);
    types->level = add_type(module, &level_spec, true);
    types->map = types->level == NULL ? NULL : add_type(module, &map_spec, false);
    types->entry = types->map == NULL ? NULL : add_type(module, &entry_spec, false);
    types->gate = types->entry == NULL ? NULL : add_type(module, &gate_spec, true);
    types->memo = types->gate == NULL ? NULL : add_type(module, &memo_spec, true);
    return types->memo == NULL ? -1 : 0;
}

int zoo_level_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct types *types = zoo_level_state(module);
    if (types == NULL)
        return 0;
    Py_VISIT(types->level);
    Py_VISIT(types->map);
    Py_VISIT(types->entry);
    Py_VISIT(types->gate);
    Py_VISIT(types->memo);
    return 0;
}

int zoo_level_clear(PyObject *module)
{
    struct types *types = zoo_level_state(module);
    if (types == NULL)
        return 0;
    Py_CLEAR(types->level);
    Py_CLEAR(types->map);
    Py_CLEAR(types->entry);
    Py_CLEAR(types->gate);
    Py_CLEAR(types->memo);
    return 0;
}
