/*
 * zoo_level.c - the process-local level: values that this process has decoded.
 *
 * A Level belongs to one segment and bounds what all its Maps keep together, in
 * entries and in bytes. A Map finds a value by any hashable key and serves it
 * only if zoo_local.c says that a get would. zoo_memo.c has a callable around one.
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
#include "zoo_level.h"

#include "zoo_hash.h"

/* One of so many hits of a copy goes to the segment, or what is hot here would be evicted there. */
enum { RENEW_EVERY = 8192, LEAST_GAP = 32 };

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
PyType_Spec zoo_entry_spec = {"zoocache.shm._door.Entry", sizeof(struct entry), 0,
                              Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, entry_slots};

/* Levels */

static void next_gap(struct level *level)
{
    level->gap = level->left = LEAST_GAP + zoo_mix(++level->looks) % LEAST_GAP;
}

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
    next_gap(level);
    return (PyObject *)level;
}

static void count_hits(struct level *level)
{
    uint64_t hits = level->gap - level->left;
    if (level->seg != NULL)
        level->core->local_count(level->seg, hits);
    level->unsited += hits;
    level->gap = level->left;
}

/*
 * Once in 32 to 63 hits, 48 on average: all hits since the last time are counted
 * as those of this entry's site, which comes to the same in the end, as the gap
 * is another each time (zoo_look.c).
 */
static void count_sampled(struct level *level, const struct entry *entry)
{
    count_hits(level);
    level->core->site_hits(level->seg, entry->site, level->unsited);
    level->unsited = 0;
    next_gap(level);
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
    level->gap = level->left;
    level->seg = NULL;
    level->owner = NULL;
    turn(level);
    turn(level);
    Py_XDECREF(owner); /* last: the segment's finalizer may run */
    Py_RETURN_NONE;
}

PyObject *zoo_level_map(PyObject *self, PyObject *unused)
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
    {"map", zoo_level_map, METH_NOARGS, "map() -> Map: an empty one"},
    {"count", level_count, METH_NOARGS, "count(): its hits are in the segment's statistics now"},
    {"close", level_close, METH_O, "close(counted): nothing is kept or served any more"},
    {"held", level_len, METH_NOARGS, "held() -> int: entries in all its maps"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot level_slots[] = {{Py_tp_new, level_new},
                                    {Py_tp_dealloc, level_dealloc},
                                    {Py_tp_methods, level_methods},
                                    {Py_tp_doc, "The process-local copies of one segment."},
                                    {0, NULL}};
PyType_Spec zoo_level_spec = {"zoocache.shm._door.Level", sizeof(struct level), 0,
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
struct entry *zoo_level_look(struct map *map, PyObject *key)
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
bool zoo_level_serve(struct map *map, PyObject *key, struct entry *entry)
{
    struct level *level = map->level;
    if (level->seg == NULL)
        return false;
    if (++entry->hits % RENEW_EVERY != 0 &&
        (zoo_local_quiet(level->seg, &entry->copy) ||
         level->core->local_verify(level->seg, &entry->copy) == ZOO_OK)) {
        if (--level->left == 0)
            count_sampled(level, entry);
        return true;
    }
    drop(map, key);
    return false;
}

/* The entry of a key if it may be served; a new reference, or NULL. */
static struct entry *get(struct map *map, PyObject *key)
{
    struct entry *entry = zoo_level_look(map, key);
    if (entry != NULL && !zoo_level_serve(map, key, entry))
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

/* (value, dependency hashes, stamp) */
PyObject *zoo_level_shown(const struct entry *entry)
{
    return Py_BuildValue("Oy#K", entry->value, (char *)entry->copy.deps,
                         8 * (Py_ssize_t)entry->copy.n_deps, (unsigned long long)entry->copy.stamp);
}

/* find(key) -> (value, dependency hashes, stamp) | None */
static PyObject *map_find(PyObject *self, PyObject *key)
{
    struct entry *entry = get((struct map *)self, key);
    if (entry == NULL)
        Py_RETURN_NONE;
    PyObject *found = zoo_level_shown(entry);
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
    unsigned site = 0;
    if (!PyArg_ParseTuple(args, "y#y#KKn|I", &name, &name_len, &deps, &deps_len, &stamp, &expiry,
                          &bytes, &site))
        return NULL;
    struct entry *entry = new_object(types_of((PyObject *)map)->entry);
    if (entry == NULL)
        return NULL;
    Py_INCREF(key);
    Py_INCREF(value);
    entry->key = key;
    entry->value = value;
    entry->bytes = bytes;
    entry->site = site;
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

PyObject *zoo_level_put(struct map *map, PyObject *key, PyObject *value, PyObject *args)
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

/* put(key, value, entry's key, its dependency hashes, its stamp, its expiry, bytes, site) -> bool
 */
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
        zoo_level_put((struct map *)self, PyTuple_GetItem(args, 0), PyTuple_GetItem(args, 1), rest);
    Py_DECREF(rest);
    return done;
}

static PyMethodDef map_methods[] = {
    {"get", map_get, METH_O, "get(key) -> value | None"},
    {"find", map_find, METH_O, "find(key) -> (value, deps, stamp) | None"},
    {"put", map_put, METH_VARARGS,
     "put(key, value, entry_key, deps, stamp, expiry_ms, bytes, site=0) -> bool: was it still "
     "good?"},
    {NULL, NULL, 0, NULL}};
static PyMemberDef map_members[] = {
    {"level", T_OBJECT, offsetof(struct map, level), READONLY, "whose it is"},
    {NULL, 0, 0, 0, NULL}};
static PyType_Slot map_slots[] = {{Py_tp_dealloc, map_dealloc},
                                  {Py_tp_methods, map_methods},
                                  {Py_tp_members, map_members},
                                  {Py_tp_doc, "Copies of entries, by keys of the caller's."},
                                  {0, NULL}};
PyType_Spec zoo_map_spec = {"zoocache.shm._door.Map", sizeof(struct map), 0,
                            Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, map_slots};

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
    types->level = add_type(module, &zoo_level_spec, true);
    types->map = types->level == NULL ? NULL : add_type(module, &zoo_map_spec, false);
    types->entry = types->map == NULL ? NULL : add_type(module, &zoo_entry_spec, false);
    types->gate = types->entry == NULL ? NULL : add_type(module, &zoo_gate_spec, true);
    types->memo = types->gate == NULL ? NULL : add_type(module, &zoo_memo_spec, true);
    types->filling = types->memo == NULL ? NULL : add_type(module, &zoo_filling_spec, true);
    types->step = types->filling == NULL ? NULL : add_type(module, &zoo_step_spec, true);
    types->near = types->step == NULL ? NULL : add_type(module, &zoo_near_spec, true);
    types->update = types->near == NULL ? NULL : add_type(module, &zoo_update_spec, true);
    types->intent = types->update == NULL ? NULL : add_type(module, &zoo_intent_spec, false);
    return types->intent == NULL ? -1 : 0;
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
    Py_VISIT(types->filling);
    Py_VISIT(types->step);
    Py_VISIT(types->near);
    Py_VISIT(types->update);
    Py_VISIT(types->intent);
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
    Py_CLEAR(types->filling);
    Py_CLEAR(types->step);
    Py_CLEAR(types->near);
    Py_CLEAR(types->update);
    Py_CLEAR(types->intent);
    return 0;
}
