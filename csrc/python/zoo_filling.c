/*
 * zoo_filling.c - a Filling: makes a list of a Django model's instances from rows.
 *
 * What `Model.from_db` comes to for a model that leaves it alone is a `__dict__`
 * and a `_state`. The former is a copy of a dict that has all names in Django's
 * order, with the row's values put in; the latter has but two or three attributes,
 * which CPython keeps in the object itself. The class and its state's class have
 * `object.__new__` and no __init__ of their own: filling.py sees to that.
 *
 * Rows are tuples of one width. Nothing of the model's runs here.
 */
#include "zoo_level.h"

/* One of an instance's values. */
struct cell {
    PyObject *name;    /* which `names` holds */
    Py_ssize_t column; /* in a row */
};

struct filling {
    PyObject_HEAD PyTypeObject *model, *state;
    newfunc new_state;
    PyObject *no_args;  /* () */
    PyObject *names;    /* of the values, a tuple */
    struct cell *cells; /* by name */
    Py_ssize_t n_cells;
    Py_ssize_t width;                 /* of rows */
    PyObject *inside;                 /* an instance's __dict__, with None for the values */
    PyObject *of_state;               /* its _state's, but for the alias */
    PyObject *state_name, *dict_name; /* "_state", "__dict__" */
};

/* An object of a class whose instances have a __dict__: this one. Takes it over; NULL: raised. */
PyObject *zoo_with_dict(PyTypeObject *type, PyObject *name, PyObject *dict)
{
    PyObject *made = dict == NULL ? NULL : new_object(type);
    /* As `made.__dict__ = dict`: from CPython 3.13 on, PyObject_GenericSetDict is not enough. */
    if (made != NULL && PyObject_GenericSetAttr(made, name, dict) != 0)
        Py_CLEAR(made);
    Py_XDECREF(dict);
    return made;
}

/* A _state with these attributes. */
static PyObject *new_state(const struct filling *filling, PyObject *of_state)
{
    PyObject *state = filling->new_state(filling->state, filling->no_args, NULL);
    PyObject *name, *value;
    Py_ssize_t at = 0;
    while (state != NULL && PyDict_Next(of_state, &at, &name, &value)) {
        if (PyObject_GenericSetAttr(state, name, value) != 0)
            Py_CLEAR(state);
    }
    return state;
}

static PyObject *instance(const struct filling *filling, PyObject *of_state, PyObject *row)
{
    if (!PyTuple_Check(row) || PyTuple_Size(row) != filling->width) {
        PyErr_SetString(PyExc_ValueError,
                        "a row is a tuple of as many values as there are columns");
        return NULL;
    }
    PyObject *inside = PyDict_Copy(filling->inside);
    PyObject *state = new_state(filling, of_state);
    bool good =
        inside != NULL && state != NULL && PyDict_SetItem(inside, filling->state_name, state) == 0;
    Py_XDECREF(state);
    const struct cell *end = filling->cells + filling->n_cells;
    for (const struct cell *cell = filling->cells; good && cell < end; cell++)
        good = PyDict_SetItem(inside, cell->name, PyTuple_GetItem(row, cell->column)) == 0;
    if (!good)
        Py_CLEAR(inside);
    return zoo_with_dict(filling->model, filling->dict_name, inside);
}

/* build(rows, alias) -> list */
static PyObject *filling_build(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    const struct filling *filling = (const struct filling *)self;
    if (n != 2 || !PyTuple_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "build() takes a tuple of rows, and an alias");
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(args[0]);
    PyObject *of_state = PyDict_Copy(filling->of_state);
    PyObject *list = of_state != NULL && PyDict_SetItemString(of_state, "db", args[1]) == 0
                         ? PyList_New(count)
                         : NULL;
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *made = instance(filling, of_state, PyTuple_GetItem(args[0], i));
        if (made == NULL || PyList_SetItem(list, i, made) != 0)
            Py_CLEAR(list);
    }
    Py_XDECREF(of_state);
    return list;
}

static bool set_cells(struct filling *filling, PyObject *columns)
{
    filling->n_cells = PyTuple_Size(filling->names);
    filling->cells = PyMem_Malloc((size_t)(filling->n_cells + 1) * sizeof *filling->cells);
    if (filling->cells == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (Py_ssize_t i = 0; i < filling->n_cells; i++) {
        PyObject *column = PyTuple_GetItem(columns, i);
        Py_ssize_t at = column == NULL ? -1 : PyLong_AsSsize_t(column);
        if (at < 0 || at >= filling->width) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_IndexError, "a column is one of a row's");
            return false;
        }
        filling->cells[i] = (struct cell){PyTuple_GetItem(filling->names, i), at};
    }
    return true;
}

/* The __dict__ of an instance without its values: `_state`, and then the names in their order. */
static bool set_inside(struct filling *filling)
{
    filling->inside = PyDict_New();
    bool good = filling->inside != NULL &&
                PyDict_SetItem(filling->inside, filling->state_name, Py_None) == 0;
    for (Py_ssize_t i = 0; good && i < filling->n_cells; i++)
        good = PyDict_SetItem(filling->inside, filling->cells[i].name, Py_None) == 0;
    return good;
}

/* Filling(model, its state's class, the state's dict but for `db`, width, names, columns) */
static PyObject *filling_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *model, *state, *of_state, *names, *columns;
    Py_ssize_t width;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!O!O!nO!O!", &PyType_Type, &model, &PyType_Type, &state,
                          &PyDict_Type, &of_state, &width, &PyTuple_Type, &names, &PyTuple_Type,
                          &columns))
        return NULL;
    struct filling *filling = new_object(type);
    if (filling == NULL)
        return NULL;
    Py_INCREF(model);
    Py_INCREF(state);
    Py_INCREF(names);
    filling->model = (PyTypeObject *)model;
    filling->state = (PyTypeObject *)state;
    filling->names = names;
    filling->width = width;
    filling->new_state = (newfunc)PyType_GetSlot(filling->state, Py_tp_new);
    filling->no_args = PyTuple_New(0);
    filling->of_state = PyDict_Copy(of_state);
    filling->state_name = PyUnicode_InternFromString("_state");
    filling->dict_name = PyUnicode_InternFromString("__dict__");
    if (filling->no_args == NULL || filling->of_state == NULL || filling->state_name == NULL ||
        filling->dict_name == NULL || !set_cells(filling, columns) || !set_inside(filling))
        Py_CLEAR(filling);
    return (PyObject *)filling;
}

static int filling_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct filling *filling = (struct filling *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(filling->model);
    Py_VISIT(filling->state);
    Py_VISIT(filling->of_state);
    return 0;
}

/* The classes stay: somebody's finalizer may still call this. */
static int filling_clear(PyObject *self)
{
    (void)self;
    return 0;
}

static void filling_dealloc(PyObject *self)
{
    struct filling *filling = (struct filling *)self;
    PyObject_GC_UnTrack(self);
    Py_XDECREF((PyObject *)filling->model);
    Py_XDECREF((PyObject *)filling->state);
    Py_XDECREF(filling->names);
    Py_XDECREF(filling->inside);
    Py_XDECREF(filling->of_state);
    Py_XDECREF(filling->state_name);
    Py_XDECREF(filling->dict_name);
    Py_XDECREF(filling->no_args);
    PyMem_Free(filling->cells);
    free_object(self);
}

static PyMethodDef filling_methods[] = {{"build", (PyCFunction)(void (*)(void))filling_build,
                                         METH_FASTCALL, "build(rows, alias) -> list of instances"},
                                        {NULL, NULL, 0, NULL}};
static PyType_Slot filling_slots[] = {{Py_tp_new, filling_new},
                                      {Py_tp_dealloc, filling_dealloc},
                                      {Py_tp_traverse, filling_traverse},
                                      {Py_tp_clear, filling_clear},
                                      {Py_tp_methods, filling_methods},
                                      {Py_tp_doc, "Makes a model's instances from rows."},
                                      {0, NULL}};
PyType_Spec zoo_filling_spec = {"zoocache.shm._door.Filling", sizeof(struct filling), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, filling_slots};
