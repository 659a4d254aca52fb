/*
 * zoo_update.c - an Update: the tags of an UPDATE of one row.
 *
 * Most are a save(): values for columns of the model, of a row whose key is a whole
 * number. Which columns have tags, and how these begin, is known of the model, so
 * what is left is to find each field among the model's own, where it is the next one
 * mostly, and to put numbers behind texts. Of all else nothing is made: Python then
 * works the tags out (contrib/django/writing.py).
 */
#include "zoo_level.h"

struct column {
    PyObject *field;
    PyObject *name;  /* of a foreign key's column: NULL where no tag tells of the column */
    PyObject *every; /* the tag of all its values */
    PyObject *below; /* what those of one begin with */
    uint64_t bit;
};

/* Names of attributes, and a connector. */
enum {
    VALUES,
    WHERE,
    ALIAS_MAP,
    NEGATED,
    CONNECTOR,
    CHILDREN,
    LHS,
    RHS,
    TARGET,
    ALIAS,
    COLUMN,
    AND,
    NAMES
};
static const char *const names[NAMES] = {
    [VALUES] = "values",
    [WHERE] = "where",
    [ALIAS_MAP] = "alias_map",
    [NEGATED] = "negated",
    [CONNECTOR] = "connector",
    [CHILDREN] = "children",
    [LHS] = "lhs",
    [RHS] = "rhs",
    [TARGET] = "target",
    [ALIAS] = "alias",
    [COLUMN] = "column",
    [AND] = "AND",
};

struct update {
    PyObject_HEAD PyObject *any; /* the tag that every write has */
    PyObject *below;             /* what that of one row begins with */
    PyObject *key;               /* the field of the primary key */
    PyObject *reference;         /* the class of what refers to a column */
    PyObject *equalities;        /* a set: the classes of conditions that one value equals */
    PyObject *names[NAMES];
    uint64_t foreign; /* the bits of all foreign keys */
    Py_ssize_t count;
    struct column *columns;
};

/* Is what was made, and is let go, an object that lives on? */
static bool is(PyObject *made, const PyObject *object)
{
    Py_XDECREF(made);
    return made == object;
}

static PyObject *get(const struct update *update, PyObject *object, int name)
{
    return PyObject_GetAttr(object, update->names[name]);
}

/* Is it the column of the primary key, of the only alias that a query has? */
static bool is_key(const struct update *update, PyObject *column, PyObject *aliases)
{
    if ((PyObject *)Py_TYPE(column) != update->reference || !PyDict_Check(aliases) ||
        PyDict_Size(aliases) != 1 || !is(get(update, column, TARGET), update->key))
        return false;
    PyObject *alias = get(update, column, ALIAS);
    bool known = alias != NULL && PyDict_Contains(aliases, alias) == 1;
    Py_XDECREF(alias);
    return known;
}

/* The only condition of a WHERE. NULL: there are others, or it raised. */
static PyObject *only_condition(const struct update *update, PyObject *where)
{
    if (!is(get(update, where, NEGATED), Py_False) ||
        !is(get(update, where, CONNECTOR), update->names[AND]))
        return NULL;
    PyObject *children = get(update, where, CHILDREN), *leaf = NULL;
    if (children != NULL && PyList_Check(children) && PyList_Size(children) == 1) {
        leaf = PyList_GetItem(children, 0);
        Py_INCREF(leaf);
    }
    Py_XDECREF(children);
    return leaf;
}

/* What a WHERE that is one equality of the primary key says that it is. NULL: it says something
 * else, or it raised.
 */
static PyObject *row_of(const struct update *update, PyObject *query)
{
    PyObject *where = get(update, query, WHERE), *row = NULL;
    PyObject *leaf = where == NULL ? NULL : only_condition(update, where);
    if (leaf != NULL && PySet_Contains(update->equalities, (PyObject *)Py_TYPE(leaf)) == 1) {
        PyObject *column = get(update, leaf, LHS);
        PyObject *aliases = column == NULL ? NULL : get(update, query, ALIAS_MAP);
        if (aliases != NULL && is_key(update, column, aliases))
            row = get(update, leaf, RHS);
        Py_XDECREF(aliases);
        Py_XDECREF(column);
    }
    Py_XDECREF(leaf);
    Py_XDECREF(where);
    return row;
}

static bool add_below(PyObject *tags, PyObject *below, PyObject *number)
{
    PyObject *text = PyObject_Str(number);
    PyObject *tag = text == NULL ? NULL : PyUnicode_Concat(below, text);
    bool added = tag != NULL && PySet_Add(tags, tag) == 0;
    Py_XDECREF(tag);
    Py_XDECREF(text);
    return added;
}

/* The column of a field, which comes after the last one mostly. NULL: none of the model's. */
static const struct column *find(const struct update *update, PyObject *field, Py_ssize_t *next)
{
    for (Py_ssize_t i = 0, at = *next; i < update->count; i++, at++) {
        if (at >= update->count)
            at = 0;
        if (update->columns[at].field == field) {
            *next = at + 1;
            return &update->columns[at];
        }
    }
    return NULL;
}

/* Has the field the column that it had, when the model was looked at? */
static bool is_as_it_was(const struct update *update, const struct column *column)
{
    return is(PyObject_GetAttr(column->field, update->names[COLUMN]), column->name);
}

/* Adds what one of the query's values, (field, model, value), makes. False: it cannot be told. */
static bool add_value(const struct update *update, PyObject *tags, PyObject *one, Py_ssize_t *next,
                      uint64_t *set)
{
    if (!PyTuple_Check(one) || PyTuple_Size(one) != 3)
        return false;
    PyObject *value = PyTuple_GetItem(one, 2);
    const struct column *column = find(update, PyTuple_GetItem(one, 0), next);
    if (column == NULL)
        return false;
    if (column->name == NULL)
        return true;
    *set |= column->bit;
    return is_as_it_was(update, column) && (value == Py_None || /* no query is narrowed to NULL */
                                            (PyLong_CheckExact(value) && column->below != NULL &&
                                             add_below(tags, column->below, value)));
}

/* A column that no value was set for may hold any. */
static bool add_unknown(const struct update *update, PyObject *tags, uint64_t set)
{
    if (set == update->foreign)
        return true;
    for (Py_ssize_t i = 0; i < update->count; i++) {
        const struct column *column = &update->columns[i];
        if ((column->bit & ~set) != 0 && PySet_Add(tags, column->every) != 0)
            return false;
    }
    return true;
}

/* The tags of values for the row. NULL: they cannot be told, or it raised. */
static PyObject *tags_of(const struct update *update, PyObject *values, PyObject *row)
{
    if (!PyList_Check(values) || PyList_Size(values) == 0 || !PyLong_CheckExact(row))
        return NULL;
    PyObject *tags = PyFrozenSet_New(NULL);
    bool good =
        tags != NULL && PySet_Add(tags, update->any) == 0 && add_below(tags, update->below, row);
    uint64_t set = 0;
    Py_ssize_t next = 0;
    for (Py_ssize_t i = 0; good && i < PyList_Size(values); i++) {
        PyObject *one = PyList_GetItem(values, i);
        Py_INCREF(one); /* to ask a field for its column may run Python */
        good = add_value(update, tags, one, &next, &set);
        Py_DECREF(one);
    }
    if (!good || !add_unknown(update, tags, set))
        Py_CLEAR(tags);
    return tags;
}

/* tags(query) */
static PyObject *update_tags(PyObject *self, PyObject *query)
{
    const struct update *update = (const struct update *)self;
    PyObject *row = row_of(update, query);
    PyObject *values = row == NULL ? NULL : get(update, query, VALUES);
    PyObject *tags = values == NULL ? NULL : tags_of(update, values, row);
    Py_XDECREF(values);
    Py_XDECREF(row);
    if (tags != NULL || PyErr_Occurred())
        return tags;
    Py_RETURN_NONE;
}

/* What is said of a field: None, or (name of its column, tag, are whole numbers as they are?) */
static bool set_column(struct update *update, struct column *column, PyObject *field,
                       PyObject *said)
{
    PyObject *name, *every;
    int integers;
    Py_INCREF(field);
    column->field = field;
    if (said == Py_None)
        return true;
    if (!PyTuple_Check(said)) {
        PyErr_SetString(PyExc_TypeError, "of a field it takes None or a tuple");
        return false;
    }
    if (!PyArg_ParseTuple(said, "UUp", &name, &every, &integers))
        return false;
    Py_INCREF(name);
    Py_INCREF(every);
    column->name = name;
    column->every = every;
    column->below = integers ? PyUnicode_FromFormat("%U:", every) : NULL;
    if (integers && column->below == NULL)
        return false;
    column->bit = update->foreign + 1; /* the next one, as the lower ones are all set */
    update->foreign |= column->bit;
    if (column->bit == 0)
        PyErr_SetString(PyExc_ValueError, "more than 64 foreign keys");
    return column->bit != 0;
}

static bool set_columns(struct update *update, PyObject *fields, PyObject *said)
{
    Py_ssize_t n = PyTuple_Size(fields);
    if (PyTuple_Size(said) != n) {
        PyErr_SetString(PyExc_ValueError, "as many fields as is said something of");
        return false;
    }
    update->columns = PyMem_Calloc((size_t)n + 1, sizeof *update->columns);
    if (update->columns == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (update->count = 0; update->count < n;) {
        struct column *column = &update->columns[update->count++];
        if (!set_column(update, column, PyTuple_GetItem(fields, update->count - 1),
                        PyTuple_GetItem(said, update->count - 1)))
            return false;
    }
    return true;
}

/* Update(tag of any write, tag of all rows, primary key's field, class of references to columns,
 * classes of equalities, fields, what is said of each) */
static PyObject *update_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *any, *every, *key, *reference, *equalities, *fields, *said;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "UUOO!OO!O!", &any, &every, &key, &PyType_Type, &reference,
                          &equalities, &PyTuple_Type, &fields, &PyTuple_Type, &said))
        return NULL;
    struct update *update = new_object(type);
    if (update == NULL)
        return NULL;
    Py_INCREF(any);
    Py_INCREF(key);
    Py_INCREF(reference);
    update->any = any;
    update->key = key;
    update->reference = reference;
    update->below = PyUnicode_FromFormat("%U:", every);
    update->equalities = PyFrozenSet_New(equalities);
    if (update->below == NULL || update->equalities == NULL ||
        !intern_names(update->names, names, NAMES) || !set_columns(update, fields, said))
        Py_CLEAR(update);
    return (PyObject *)update;
}

static int update_traverse(PyObject *self, visitproc visit, void *arg)
{
    const struct update *update = (const struct update *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(update->key);
    Py_VISIT(update->reference);
    Py_VISIT(update->equalities);
    for (Py_ssize_t i = 0; i < update->count; i++)
        Py_VISIT(update->columns[i].field);
    return 0;
}

/* The fields stay: somebody's finalizer may still call this. */
static int update_clear(PyObject *self)
{
    (void)self;
    return 0;
}

static void update_dealloc(PyObject *self)
{
    struct update *update = (struct update *)self;
    PyObject_GC_UnTrack(self);
    for (Py_ssize_t i = 0; i < update->count; i++) {
        Py_XDECREF(update->columns[i].field);
        Py_XDECREF(update->columns[i].name);
        Py_XDECREF(update->columns[i].every);
        Py_XDECREF(update->columns[i].below);
    }
    PyMem_Free(update->columns);
    Py_XDECREF(update->any);
    Py_XDECREF(update->below);
    Py_XDECREF(update->key);
    Py_XDECREF(update->reference);
    Py_XDECREF(update->equalities);
    for (int i = 0; i < NAMES; i++)
        Py_XDECREF(update->names[i]);
    free_object(self);
}

static PyMethodDef update_methods[] = {
    {"tags", update_tags, METH_O,
     "tags(query) -> frozenset of tags | None: work them out in Python"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot update_slots[] = {{Py_tp_new, update_new},
                                     {Py_tp_dealloc, update_dealloc},
                                     {Py_tp_traverse, update_traverse},
                                     {Py_tp_clear, update_clear},
                                     {Py_tp_methods, update_methods},
                                     {Py_tp_doc, "The tags of a model's updates."},
                                     {0, NULL}};
PyType_Spec zoo_update_spec = {"zoocache.shm._door.Update", sizeof(struct update), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, update_slots};
