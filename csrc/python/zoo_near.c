/*
 * zoo_near.c - a Near: finds the answer to a question that this process has the rows for.
 *
 * The short way of find() in contrib/django/plans.py, in one call: nothing unusual is going
 * on (see zoo_memo.c), and the memo of the shape's plan has rows for the recipe's values.
 * Otherwise nothing is found here, and find() says what there is to say.
 */
#include "zoo_level.h"

/* Names of attributes. */
enum {
    RECIPE,
    DB,
    HINTS,
    LOOKUPS,
    RESULT,
    ROUTERS,
    PLANS,
    RECEIVERS,
    STATES,
    SESSION,
    KNOWN,
    CONNECTION,
    DIGEST,
    NEAR,
    ANSWER,
    NAMES
};
static const char *const names[NAMES] = {
    [RECIPE] = "_recipe",       [DB] = "_db",
    [HINTS] = "_hints",         [LOOKUPS] = "_prefetch_related_lookups",
    [RESULT] = "_result_cache", [ROUTERS] = "routers",
    [PLANS] = "plans",          [RECEIVERS] = "receivers",
    [STATES] = "states",        [SESSION] = "session",
    [KNOWN] = "known",          [CONNECTION] = "connection",
    [DIGEST] = "digest",        [NEAR] = "near",
    [ANSWER] = "answer",
};

struct near {
    PyObject_HEAD PyObject *question; /* its name */
    PyObject *signals;                /* a tuple: their receivers must be told of instances */
    PyObject *running_loop;           /* () -> this thread's event loop, or None */
    PyObject *here;                   /* has `states`: this thread's connections', by alias */
    PyObject *router;                 /* has `routers` */
    PyObject *default_alias;
    PyTypeObject *memo;
    PyObject *names[NAMES];
};

/* In all that follows, NULL without an exception: ask find(). */

static PyObject *item(PyObject *dict, PyObject *key)
{
    PyObject *found = PyDict_GetItemWithError(dict, key);
    Py_XINCREF(found);
    return found;
}

/* Is an attribute an empty list? */
static bool is_empty(PyObject *object, PyObject *name)
{
    PyObject *list = PyObject_GetAttr(object, name);
    bool empty = list != NULL && PyList_Check(list) && PyList_Size(list) == 0;
    Py_XDECREF(list);
    return empty;
}

/* Of a queryset with this __dict__: its own, or where neither routers nor hints say anything. */
static PyObject *alias_of(const struct near *near, PyObject *its)
{
    PyObject *alias = item(its, near->names[DB]);
    if (alias != NULL && alias != Py_None)
        return alias;
    Py_XDECREF(alias);
    PyObject *hints = PyDict_GetItemWithError(its, near->names[HINTS]);
    if (PyErr_Occurred() || (hints != NULL && (!PyDict_Check(hints) || PyDict_Size(hints) != 0)) ||
        !is_empty(near->router, near->names[ROUTERS]))
        return NULL;
    Py_INCREF(near->default_alias);
    return near->default_alias;
}

/* What the shape has learnt of the question on that alias. */
static PyObject *plan_of(const struct near *near, PyObject *shape, PyObject *alias)
{
    PyObject *plans = PyObject_GetAttr(shape, near->names[PLANS]);
    PyObject *its = plans == NULL ? NULL : item(plans, near->question);
    PyObject *plan = its == NULL ? NULL : item(its, alias);
    Py_XDECREF(its);
    Py_XDECREF(plans);
    if (plan == Py_None)
        Py_CLEAR(plan);
    return plan;
}

/* A task may have connections of its own. */
static bool is_in_no_task(const struct near *near)
{
    PyObject *loop = PyObject_CallNoArgs(near->running_loop);
    bool none = loop == Py_None;
    Py_XDECREF(loop);
    return none;
}

/* Does anybody want to be told of instances? */
static bool is_listened(const struct near *near)
{
    Py_ssize_t at = 0, n = PyTuple_Size(near->signals);
    while (at < n && is_empty(PyTuple_GetItem(near->signals, at), near->names[RECEIVERS]))
        at++;
    return at < n;
}

/* Of a session: that of the raw connection that it looked at, or it looks anew. */
static PyObject *digest_of(const struct near *near, PyObject *session)
{
    PyObject *known = PyObject_GetAttr(session, near->names[KNOWN]), *raw = NULL, *digest = NULL;
    if (known != NULL && PyTuple_Check(known) && PyTuple_Size(known) == 3)
        raw = PyObject_GetAttr(PyTuple_GetItem(known, 0), near->names[CONNECTION]);
    if (raw != NULL && raw != Py_None && raw == PyTuple_GetItem(known, 1)) {
        digest = PyTuple_GetItem(known, 2);
        Py_INCREF(digest);
    } else if (!PyErr_Occurred()) {
        digest = PyObject_CallMethodObjArgs(session, near->names[DIGEST], NULL);
    }
    Py_XDECREF(raw);
    Py_XDECREF(known);
    return digest;
}

/* Of the session that this thread has with the database of that alias. */
static PyObject *digest_here(const struct near *near, PyObject *alias)
{
    PyObject *states = PyObject_GetAttr(near->here, near->names[STATES]);
    PyObject *state = states == NULL ? NULL : item(states, alias);
    PyObject *session = state == NULL ? NULL : PyObject_GetAttr(state, near->names[SESSION]);
    PyObject *digest = session == NULL ? NULL : digest_of(near, session);
    Py_XDECREF(session);
    Py_XDECREF(state);
    Py_XDECREF(states);
    return digest;
}

/* Those that the plan's memo has of the values, if it is of sessions with that digest. */
static PyObject *rows_of(const struct near *near, PyObject *plan, PyObject *digest,
                         PyObject *values)
{
    PyObject *pair = PyObject_GetAttr(plan, near->names[NEAR]), *rows = NULL;
    if (pair != NULL && PyTuple_Check(pair) && PyTuple_Size(pair) == 2) {
        PyObject *memo = PyTuple_GetItem(pair, 1);
        if (Py_TYPE(memo) == near->memo &&
            PyObject_RichCompareBool(PyTuple_GetItem(pair, 0), digest, Py_EQ) == 1)
            rows = zoo_memo_get(memo, values);
    }
    Py_XDECREF(pair);
    return rows;
}

static PyObject *planned(const struct near *near, PyObject *plan, PyObject *alias, PyObject *values)
{
    PyObject *digest = is_listened(near) || !is_in_no_task(near) ? NULL : digest_here(near, alias);
    PyObject *rows = digest == NULL ? NULL : rows_of(near, plan, digest, values);
    PyObject *answer = rows == NULL ? NULL : PyObject_GetAttr(plan, near->names[ANSWER]);
    PyObject *found =
        answer == NULL ? NULL : PyObject_CallFunctionObjArgs(answer, rows, alias, NULL);
    Py_XDECREF(answer);
    Py_XDECREF(rows);
    Py_XDECREF(digest);
    if (found == Py_None)
        Py_CLEAR(found);
    return found;
}

/* The answer to a recipe, of a queryset with this __dict__. */
static PyObject *find(const struct near *near, PyObject *its, PyObject *recipe)
{
#ifdef Py_GIL_DISABLED
    return NULL; /* nothing is kept there */
#endif
    if (!PyTuple_Check(recipe) || PyTuple_Size(recipe) != 2)
        return NULL;
    PyObject *alias = alias_of(near, its);
    PyObject *plan = alias == NULL ? NULL : plan_of(near, PyTuple_GetItem(recipe, 0), alias);
    PyObject *found = plan == NULL ? NULL : planned(near, plan, alias, PyTuple_GetItem(recipe, 1));
    Py_XDECREF(plan);
    Py_XDECREF(alias);
    return found;
}

static PyObject *answer(const struct near *near, PyObject *its)
{
    PyObject *recipe = item(its, near->names[RECIPE]);
    PyObject *found = recipe == NULL ? NULL : find(near, its, recipe);
    Py_XDECREF(recipe);
    return found;
}

static PyObject *or_none(PyObject *found)
{
    if (found == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return found;
}

/* find(queryset, recipe) */
static PyObject *near_find(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2) {
        PyErr_SetString(PyExc_TypeError, "find() takes a queryset and a recipe");
        return NULL;
    }
    PyObject *its = PyObject_GenericGetDict(args[0], NULL);
    PyObject *found = its == NULL ? NULL : find((struct near *)self, its, args[1]);
    Py_XDECREF(its);
    return or_none(found);
}

/* answer(queryset) */
static PyObject *near_answer(PyObject *self, PyObject *queryset)
{
    PyObject *its = PyObject_GenericGetDict(queryset, NULL);
    PyObject *found = its == NULL ? NULL : answer((struct near *)self, its);
    Py_XDECREF(its);
    return or_none(found);
}

/* Of a queryset without prefetches: the list that it has, or finds, and has from now on. Without a
 * recipe it may be of a class that has to do with its list each time.
 */
static PyObject *rows(const struct near *near, PyObject *its)
{
    PyObject *lookups = PyDict_GetItemWithError(its, near->names[LOOKUPS]);
    if (PyErr_Occurred() || (lookups != NULL && PyObject_IsTrue(lookups) != 0))
        return NULL;
    PyObject *recipe = item(its, near->names[RECIPE]);
    PyObject *list = recipe == NULL || recipe == Py_None ? NULL : item(its, near->names[RESULT]);
    if (list == Py_None)
        Py_CLEAR(list);
    if (list == NULL && recipe != NULL && !PyErr_Occurred()) {
        list = find(near, its, recipe);
        if (list != NULL && PyDict_SetItem(its, near->names[RESULT], list) != 0)
            Py_CLEAR(list);
    }
    Py_XDECREF(recipe);
    return list;
}

/* rows(queryset) */
static PyObject *near_rows(PyObject *self, PyObject *queryset)
{
    PyObject *its = PyObject_GenericGetDict(queryset, NULL);
    PyObject *list = its == NULL ? NULL : rows((struct near *)self, its);
    Py_XDECREF(its);
    return or_none(list);
}

/* Near(question, signals, running loop, here, router, default alias) */
static PyObject *near_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct types *types = zoo_level_state(PyType_GetModule(type));
    PyObject *given[6];
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OO!OOOU", &given[0], &PyTuple_Type, &given[1], &given[2],
                          &given[3], &given[4], &given[5]))
        return NULL;
    struct near *near = new_object(type);
    if (near == NULL)
        return NULL;
    PyObject **kept[] = {&near->question, &near->signals, &near->running_loop,
                         &near->here,     &near->router,  &near->default_alias};
    for (int i = 0; i < 6; i++) {
        Py_INCREF(given[i]);
        *kept[i] = given[i];
    }
    near->memo = types->memo;
    Py_INCREF((PyObject *)near->memo);
    if (!intern_names(near->names, names, NAMES))
        Py_CLEAR(near);
    return (PyObject *)near;
}

static int near_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct near *near = (struct near *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(near->question);
    Py_VISIT(near->signals);
    Py_VISIT(near->running_loop);
    Py_VISIT(near->here);
    Py_VISIT(near->router);
    return 0;
}

/* All stays: a finalizer may still call this. */
static int near_clear(PyObject *self)
{
    (void)self;
    return 0;
}

static void near_dealloc(PyObject *self)
{
    struct near *near = (struct near *)self;
    PyObject_GC_UnTrack(self);
    PyObject *held[] = {near->question, near->signals,       near->running_loop,    near->here,
                        near->router,   near->default_alias, (PyObject *)near->memo};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        Py_XDECREF(held[i]);
    for (int i = 0; i < NAMES; i++)
        Py_XDECREF(near->names[i]);
    free_object(self);
}

static PyMethodDef near_methods[] = {
    {"find", (PyCFunction)(void (*)(void))near_find, METH_FASTCALL,
     "find(queryset, recipe) -> the answer, or None"},
    {"answer", near_answer, METH_O, "answer(queryset) -> the answer to its own recipe, or None"},
    {"rows", near_rows, METH_O, "rows(queryset) -> the list that it has, or finds, or None"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot near_slots[] = {{Py_tp_new, near_new},
                                   {Py_tp_dealloc, near_dealloc},
                                   {Py_tp_traverse, near_traverse},
                                   {Py_tp_clear, near_clear},
                                   {Py_tp_methods, near_methods},
                                   {Py_tp_doc, "Finds answers that this process has."},
                                   {0, NULL}};
PyType_Spec zoo_near_spec = {"zoocache.shm._door.Near", sizeof(struct near), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, near_slots};
