/*
 * zoo_step.c - a Step: a call of a queryset's method that goes into its recipe.
 *
 * Most are `filter(name=value)`: one condition with one plain value. Where the
 * shape of the queryset has met such a call before (contrib/django/recipes.py), what the
 * call gives is a queryset whose __dict__ is a copy of what the shape says, with
 * the recipe and whatever is the one queryset's own. All else the function
 * that is given does, in Python.
 */
#include "zoo_level.h"

struct step {
    PyObject_HEAD PyObject *method; /* its name */
    PyObject *otherwise;            /* (queryset, args, kwargs) -> what the call gives */
    /* names of attributes */
    PyObject *recipe, *quick, *db, *hints, *dict;
};

/* Takes an item over from one dict into another, if it is there. False: it raised. */
static bool take_over(PyObject *own, PyObject *its, PyObject *name)
{
    PyObject *value = PyDict_GetItemWithError(its, name);
    return value == NULL ? PyErr_Occurred() == NULL : PyDict_SetItem(own, name, value) == 0;
}

static PyObject *with_value(PyObject *values, PyObject *value)
{
    Py_ssize_t n = PyTuple_Size(values);
    PyObject *all = PyTuple_New(n + 1);
    for (Py_ssize_t i = 0; all != NULL && i <= n; i++) {
        PyObject *one = i < n ? PyTuple_GetItem(values, i) : value;
        Py_INCREF(one);
        PyTuple_SetItem(all, i, one);
    }
    return all;
}

/* The queryset of a shape that is known, and of these values; otherwise as another one. */
static PyObject *grown(const struct step *step, PyObject *queryset, PyObject *shape,
                       PyObject *attributes, PyObject *values)
{
    PyObject *recipe = values == NULL ? NULL : PyTuple_Pack(2, shape, values);
    PyObject *its = recipe == NULL ? NULL : PyObject_GenericGetDict(queryset, NULL);
    PyObject *own = its == NULL ? NULL : PyDict_Copy(attributes);
    if (own != NULL && (PyDict_SetItem(own, step->recipe, recipe) != 0 ||
                        !take_over(own, its, step->db) || !take_over(own, its, step->hints)))
        Py_CLEAR(own);
    Py_XDECREF(its);
    Py_XDECREF(recipe);
    return zoo_with_dict(Py_TYPE(queryset), step->dict, own);
}

/* What the shape knows of a call with this condition: (shape, attributes), borrowed, or NULL. */
static PyObject *known(const struct step *step, PyObject *shape, PyObject *lookup, PyObject *value)
{
    PyObject *quick = PyObject_GetAttr(shape, step->quick);
    PyObject *key =
        quick == NULL ? NULL : PyTuple_Pack(3, step->method, lookup, (PyObject *)Py_TYPE(value));
    PyObject *found =
        key == NULL || !PyDict_Check(quick) ? NULL : PyDict_GetItemWithError(quick, key);
    Py_XINCREF(found);
    Py_XDECREF(key);
    Py_XDECREF(quick);
    return found;
}

/* What a call with one condition gives; NULL without an exception: ask the function. */
static PyObject *quickly(const struct step *step, PyObject *queryset, PyObject *kwargs)
{
    PyObject *lookup, *value, *made = NULL;
    Py_ssize_t at = 0;
    PyObject *recipe = PyObject_GetAttr(queryset, step->recipe);
    if (recipe == NULL || !PyTuple_Check(recipe) || !PyDict_Next(kwargs, &at, &lookup, &value)) {
        Py_XDECREF(recipe); /* None: it has no recipe */
        return NULL;
    }
    PyObject *found = known(step, PyTuple_GetItem(recipe, 0), lookup, value);
    if (found != NULL) {
        PyObject *values = with_value(PyTuple_GetItem(recipe, 1), value);
        made = grown(step, queryset, PyTuple_GetItem(found, 0), PyTuple_GetItem(found, 1), values);
        Py_XDECREF(values);
        Py_DECREF(found);
    }
    Py_DECREF(recipe);
    return made;
}

/* take(queryset, args, kwargs) */
static PyObject *step_take(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    const struct step *step = (const struct step *)self;
    if (n != 3 || !PyTuple_Check(args[1]) || !PyDict_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "take() takes a queryset, a tuple and a dict");
        return NULL;
    }
    if (PyTuple_Size(args[1]) == 0 && PyDict_Size(args[2]) == 1) {
        PyObject *made = quickly(step, args[0], args[2]);
        if (made != NULL || PyErr_Occurred())
            return made;
    }
    return PyObject_CallFunctionObjArgs(step->otherwise, args[0], args[1], args[2], NULL);
}

/* Step(method's name, function) */
static PyObject *step_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *method, *otherwise;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "UO", &method, &otherwise))
        return NULL;
    struct step *step = new_object(type);
    if (step == NULL)
        return NULL;
    Py_INCREF(method);
    Py_INCREF(otherwise);
    step->method = method;
    step->otherwise = otherwise;
    step->recipe = PyUnicode_InternFromString("_recipe");
    step->quick = PyUnicode_InternFromString("quick");
    step->db = PyUnicode_InternFromString("_db");
    step->hints = PyUnicode_InternFromString("_hints");
    step->dict = PyUnicode_InternFromString("__dict__");
    if (step->recipe == NULL || step->quick == NULL || step->db == NULL || step->hints == NULL ||
        step->dict == NULL)
        Py_CLEAR(step);
    return (PyObject *)step;
}

static int step_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((struct step *)self)->otherwise);
    return 0;
}

/* The function stays: a finalizer may still call this. */
static int step_clear(PyObject *self)
{
    (void)self;
    return 0;
}

static void step_dealloc(PyObject *self)
{
    struct step *step = (struct step *)self;
    PyObject_GC_UnTrack(self);
    Py_XDECREF(step->method);
    Py_XDECREF(step->otherwise);
    Py_XDECREF(step->recipe);
    Py_XDECREF(step->quick);
    Py_XDECREF(step->db);
    Py_XDECREF(step->hints);
    Py_XDECREF(step->dict);
    free_object(self);
}

static PyMethodDef step_methods[] = {{"take", (PyCFunction)(void (*)(void))step_take, METH_FASTCALL,
                                      "take(queryset, args, kwargs) -> what the call gives"},
                                     {NULL, NULL, 0, NULL}};
static PyType_Slot step_slots[] = {{Py_tp_new, step_new},
                                   {Py_tp_dealloc, step_dealloc},
                                   {Py_tp_traverse, step_traverse},
                                   {Py_tp_clear, step_clear},
                                   {Py_tp_methods, step_methods},
                                   {Py_tp_doc, "A call of a queryset's method."},
                                   {0, NULL}};
PyType_Spec zoo_step_spec = {"zoocache.shm._door.Step", sizeof(struct step), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, step_slots};
