/*
 * zoo_intent_door.c - an Intent: one commit under way, announced before and settled after.
 *
 * What the core does for a small commit is shorter than two calls through cffi
 * and what they take apart. The ticket is in the object, which exists before the
 * announcement: an asynchronous exception cannot come between that and the only
 * one who can settle it. Neither waits for another process, so the GIL is kept.
 */
#include "zoo_door.h"
#include "zoo_level.h"

struct intent {
    PyObject_HEAD PyObject *door; /* the capsule: keeps the segment */
    PyObject *tags;               /* bytes, for the ring of events: a lane has hashes only */
    uint64_t ticket;              /* 0: there is nothing to settle */
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
    Py_XDECREF(intent->tags);
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

/* announce(tags | None, session, quarantine in seconds) -> bool */
static PyObject *intent_announce(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct intent *intent = (struct intent *)self;
    const struct door *door = zoo_door_of(intent->door);
    Py_ssize_t session_len;
    if (n != 3) {
        PyErr_SetString(PyExc_TypeError, "announce() takes tags, a session and a quarantine");
        return NULL;
    }
    const char *session = PyUnicode_AsUTF8AndSize(args[1], &session_len);
    double quarantine = PyFloat_AsDouble(args[2]);
    PyObject *tags = session == NULL || PyErr_Occurred() ? NULL : joined(args[0]);
    if (tags == NULL)
        return NULL;
    PyObject *before = intent->tags;
    intent->tags = tags;
    Py_XDECREF(before);
    const char *at = args[0] == Py_None ? NULL : PyBytes_AsString(tags);
    int status = zoo_door_core->announce(door->seg, at, (size_t)PyBytes_Size(tags), session,
                                         milliseconds(quarantine), &intent->ticket);
    if (status < 0)
        return zoo_door_raise(door, status, args[0]);
    return PyBool_FromLong(status != ZOO_RETIRED);
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
                                             (int)how, PyBytes_AsString(intent->tags),
                                             (size_t)PyBytes_Size(intent->tags));
    return PyBool_FromLong(status == ZOO_OK);
}

static PyMethodDef intent_methods[] = {
    {"announce", (PyCFunction)(void (*)(void))intent_announce, METH_FASTCALL,
     "announce(tags, session, quarantine) -> bool: is the segment not retired?"},
    {"settle", intent_settle, METH_O, "settle(end) -> bool: are its tags invalidated?"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot intent_slots[] = {{Py_tp_dealloc, intent_dealloc},
                                     {Py_tp_methods, intent_methods},
                                     {Py_tp_doc, "One announcement; see zoocache/shm/intent.py."},
                                     {0, NULL}};
PyType_Spec zoo_intent_spec = {"zoocache.shm._door.Intent", sizeof(struct intent), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                               intent_slots};
