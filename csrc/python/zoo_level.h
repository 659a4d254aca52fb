/* zoo_level.h - what zoo_level.c, the other types, and zoo_door.c know of each other. */
#ifndef ZOO_LEVEL_H
#define ZOO_LEVEL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "zoo_layout.h"

/* The types, of one interpreter: the module's state. */
struct types {
    PyTypeObject *level, *map, *entry, *gate, *memo, *filling, *step, *near, *update, *intent;
};

struct map;

struct level {
    PyObject_HEAD const struct zoo_core *core;
    zoo_seg *seg;    /* NULL: closed */
    PyObject *owner; /* the Segment: keeps the handle open; NULL: closed */
    Py_ssize_t most_entries, most_bytes;
    Py_ssize_t entries, bytes; /* in the young dicts */
    uint64_t gap, left;        /* hits before one is looked at, and those still to come */
    uint64_t unsited;          /* hits that are counted for no site yet */
    uint64_t looks;
    struct map *maps; /* all of its Maps, each of which holds it */
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
    unsigned site; /* who is told of its hits: see zoo_tally.c */
    struct zoo_copy copy;
};

static inline void *zoo_level_state(PyObject *module)
{
    return module == NULL ? NULL : PyModule_GetState(module);
}

static inline struct types *types_of(PyObject *self)
{
    return zoo_level_state(PyType_GetModule(Py_TYPE(self)));
}

static inline void *new_object(PyTypeObject *type)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return alloc(type, 0);
}

static inline void free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Names of attributes, to be let go one by one. False: it raised, and the rest is NULL. */
static inline bool intern_names(PyObject **names, const char *const *texts, int n)
{
    for (int i = 0; i < n; i++) {
        names[i] = PyUnicode_InternFromString(texts[i]);
        if (names[i] == NULL)
            return false;
    }
    return true;
}

/* zoo_level.c */
extern PyType_Spec zoo_level_spec, zoo_map_spec, zoo_entry_spec;
PyObject *zoo_level_map(PyObject *level, PyObject *unused);
struct entry *zoo_level_look(struct map *map, PyObject *key);
PyObject *zoo_level_shown(const struct entry *entry);
bool zoo_level_serve(struct map *map, PyObject *key, struct entry *entry);
PyObject *zoo_level_put(struct map *map, PyObject *key, PyObject *value, PyObject *args);

/* zoo_memo.c */
extern PyType_Spec zoo_gate_spec, zoo_memo_spec;
PyObject *zoo_memo_get(PyObject *memo, PyObject *args);

/* zoo_filling.c */
extern PyType_Spec zoo_filling_spec;
PyObject *zoo_with_dict(PyTypeObject *type, PyObject *name, PyObject *dict);

/* zoo_step.c */
extern PyType_Spec zoo_step_spec;

/* zoo_near.c */
extern PyType_Spec zoo_near_spec;

/* zoo_update.c */
extern PyType_Spec zoo_update_spec;

/* zoo_intent_door.c */
extern PyType_Spec zoo_intent_spec;

int zoo_level_exec(PyObject *module);
int zoo_level_traverse(PyObject *module, visitproc visit, void *arg);
int zoo_level_clear(PyObject *module);

#endif
