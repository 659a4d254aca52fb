/*
 * zoo_intent_door.c - an Intent: one commit under way, announced before and settled after.
 *
 * What the core does for a small commit is shorter than two calls through cffi
 * and what they take apart. The ticket is in the object, which exists, and is in
 * the caller's list, before the announcement: an asynchronous exception cannot come
 * between that and the only one who can settle it. Neither waits for another
 * process, so the GIL is kept.
 */
#include "zoo_door.h"
#include "zoo_level.h"

struct intent {
    PyObject_HEAD PyObject *door; /* the capsule: keeps the segment */
    PyObject *names;              /* bytes, for the ring of events: a lane has hashes only */
    uint64_t ticket;              /* 0: there is nothing to settle */
    PyObject *tags, *session, *quarantine; /* as they were given, to be announced elsewhere */
};

/* intent() */
PyObject *zoo_door_intent(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct intent *intent = new_object(zoo_door_of(self)->intent);
    if (intent == NULL)
        return NULL;
    Py_INCREF(self);
    intent->door = self;
    return (PyObject *)intent;
}

static void intent_dealloc(PyObject *self)
{
    struct intent *intent = (struct intent *)self;
    Py_XDECREF(intent->door);
    Py_XDECREF(intent->names);
    Py_XDECREF(intent->tags);
    Py_XDECREF(intent->session);
    Py_XDECREF(intent->quarantine);
    free_object(self);
}

/* Tags as the core takes them, one after the other with NUL in between. NULL: raised. */
static PyObject *joined(PyObject *tags)
{
    if (tags == Py_None)
        return PyBytes_FromStringAndSize(NULL, 0);
    PyObject *between = PyUnicode_FromStringAndSize("", 1);
    PyObject *text = between == NULL ? NULL : PyUnicode_Join(between, tags);
    PyObject *bytes =
        text == NULL ? NULL : PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
    Py_XDECREF(text);
    Py_XDECREF(between);
    return bytes;
}

/* A longer quarantine than fits is the longest. */
static uint32_t milliseconds(double seconds)
{
    double ms = seconds * 1000;
    return ms >= (double)UINT32_MAX ? UINT32_MAX : ms > 0 ? (uint32_t)ms : 0;
}

static void set(PyObject **member, PyObject *value)
{
    PyObject *before = *member;
    Py_INCREF(value);
    *member = value;
    Py_XDECREF(before);
}

/* Announces tags | None, of a session, for a quarantine in seconds, when the intent is in the list,
 * if there is one. Nothing of Python's runs in between.
 */
static PyObject *announce(struct intent *intent, PyObject *list, PyObject *const *args)
{
    const struct door *door = zoo_door_of(intent->door);
    Py_ssize_t session_len;
    const char *session = PyUnicode_AsUTF8AndSize(args[1], &session_len);
    double quarantine = PyFloat_AsDouble(args[2]);
    PyObject *names = session == NULL || PyErr_Occurred() ? NULL : joined(args[0]);
    if (names == NULL)
        return NULL;
    set(&intent->names, names);
    set(&intent->tags, args[0]);
    set(&intent->session, args[1]);
    set(&intent->quarantine, args[2]);
    PyObject *done = NULL;
    if (list == NULL || PyList_Append(list, (PyObject *)intent) == 0) {
        const char *at = args[0] == Py_None ? NULL : PyBytes_AsString(names);
        int status = zoo_door_core->announce(door->seg, at, (size_t)PyBytes_Size(names), session,
                                             milliseconds(quarantine), &intent->ticket);
        done = status < 0 ? zoo_door_raise(door, status, args[0])
                          : PyBool_FromLong(status != ZOO_RETIRED);
    }
    Py_DECREF(names);
    return done;
}

/* announce(tags | None, session, quarantine in seconds) -> bool */
static PyObject *intent_announce(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 3) {
        PyErr_SetString(PyExc_TypeError, "announce() takes tags, a session and a quarantine");
        return NULL;
    }
    return announce((struct intent *)self, NULL, args);
}

/* announce(list, tags | None, session, quarantine in seconds) -> bool */
PyObject *zoo_door_announce(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 4 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError,
                        "announce() takes a list, tags, a session and a quarantine");
        return NULL;
    }
    PyObject *intent = zoo_door_intent(self, NULL);
    PyObject *done = intent == NULL ? NULL : announce((struct intent *)intent, args[0], args + 1);
    Py_XDECREF(intent);
    return done;
}

/* settle(end) -> bool */
static PyObject *intent_settle(PyObject *self, PyObject *end)
{
    const struct intent *intent = (struct intent *)self;
    long how = PyLong_AsLong(end);
    if (how == -1 && PyErr_Occurred())
        return NULL;
    if (intent->ticket == 0)
        Py_RETURN_FALSE;
    int status = zoo_door_core->settle_named(zoo_door_of(intent->door)->seg, intent->ticket,
                                             (int)how, PyBytes_AsString(intent->names),
                                             (size_t)PyBytes_Size(intent->names));
    return PyBool_FromLong(status == ZOO_OK);
}

static PyMethodDef intent_methods[] = {
    {"announce", (PyCFunction)(void (*)(void))intent_announce, METH_FASTCALL,
     "announce(tags, session, quarantine) -> bool: is the segment not retired?"},
    {"settle", intent_settle, METH_O, "settle(end) -> bool: are its tags invalidated?"},
    {NULL, NULL, 0, NULL}};
static PyMemberDef intent_members[] = {
    {"tags", T_OBJECT, offsetof(struct intent, tags), READONLY, "as they were given"},
    {"session", T_OBJECT, offsetof(struct intent, session), READONLY, "as it was given"},
    {"quarantine", T_OBJECT, offsetof(struct intent, quarantine), READONLY, "as it was given"},
    {NULL, 0, 0, 0, NULL}};
static PyType_Slot intent_slots[] = {{Py_tp_dealloc, intent_dealloc},
                                     {Py_tp_members, intent_members},
                                     {Py_tp_methods, intent_methods},
                                     {Py_tp_doc, "One announcement; see zoocache/shm/intent.py."},
                                     {0, NULL}};
PyType_Spec zoo_intent_spec = {"zoocache.shm._door.Intent", sizeof(struct intent), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                               intent_slots};
