/* Retirement: segment 0 (old) is replaced by segment 1 (its successor) under one name.
 *
 * Steps (cite these in C)
 *  R1  under the lock of the object, if the name still leads to it
 *  R2  root word = all ones: every entry and every stamp given so far is stale
 *  R3  save the clock in the header, then CAS the clock word from exactly that value to all ones,
 *      again until it succeeds. A plain exchange (-DEXCHANGE) loses the clock if the retirer dies
 *      before it has made the successor. -DONESTEP: the two as one step, for larger runs
 *  R4  state = RETIRED; seq_cst fence
 *  R5  event, so that every local hit takes the slow path
 *  R6  wait, within a bound, until all lanes of the old segment are free
 *  R7  make the successor: clock above the old one's, root word = that clock; with a *window* if
 *      R6 ran out of time
 *  R8  publish it under the name
 *  R9  the window ends when every lane of the old segment is free, or after the quarantine time,
 *      by which every COMMIT that a dead client left has ended (the one bound in time). What was
 *      filled in it must not be served after it: no stamps are given while it is open (R13), or
 *      (-DROOTATEND) the root word is raised to a new tick before it is closed
 *  R10 invalidate: tick; if the clock word is retired, raise the old segment's event counter (the
 *      retirer may not have come to R5) and attach by name: a successor is ticked and raised
 *      instead; if the name still leads to the old segment, return: the computations of the
 *      successor's fills all begin later. A tick that succeeded needs no second look at state:
 *      this invalidation began before the successor's first fill
 *  R11 announce: N1..N5, then load state; if retired, undo (N9..N12; nothing is committed), wait
 *      for the successor, announce there
 *  R12 the bump of a lane (N7, by owner or reaper) whose segment has retired: R10, then N9..N12
 *  R13 fill: no stamp is given while the clock word is retired (attach by name) or the window is
 *      open (compute, do not store); a fill is stored only in the segment of its stamp
 *  R14 get: a miss while the window is open; after a miss or stale entry, if the state is
 *      RETIRED, attach by name
 *  R15 whoever dies in R2..R8 drops the lock; the next that wants the name starts again at R1:
 *      R2..R5 may be done twice, a successor that was not published is thrown away
 *
 * An object that was unlinked (st_nlink == 0) and replaced by one that knows nothing of it is
 * retired (R2..R5) by whoever notices, who then attaches by name. Until then its users do not see
 * invalidations in the other one. Noticing is bounded by the interval of the check (a timer, every
 * fork and every attach), and so is the time for which promise 1 can be broken by an administrator
 * who removes the object. Not modelled: nothing but that time could be learnt.
 *
 * Properties: a get never returns a value whose computation began before an invalidation that
 * returned (-DINV), or a row older than the one committed (-DCOM), before the get began. Nobody
 * waits for ever.
 *
 * -DINV=n invalidations; -DCOM a committer that may die anywhere, with a server that may finish
 * its COMMIT later, and a reaper; -DRDEATH the retirer may die, another goes on
 * -DNG=n gets, -DNF=n fills; -DLOCAL with the process-local level; -DPATIENT: R6 without a bound
 */
#ifndef NG
#define NG 2
#endif
#ifndef NF
#define NF 1
#endif
#ifndef NR
#ifdef RDEATH
#define NR 2
#else
#define NR 1
#endif
#endif
#define ONES 255

byte hlc[2] = 1; bit ret[2];          /* one word: clock and retired flag */
byte saved;                           /* the header's copy of the old clock */
byte root[2], tag[2], ev[2]; bit state[2], window[2];
byte own[2]; bit pend[2];             /* one lane and one pending word each */
bit name;                             /* where the name leads */
byte lock;
byte rs[2], rv[2], rg[2]; bit rok[2]; /* the one entry of each segment */
byte db, began, donex;                /* row version; ghosts */
bit inflight; bit dead[6];

#define D if :: true :: mortal -> goto crash fi
#ifdef LOCAL
#define EV(x) ev[x]++
#else
#define EV(x) skip
#endif

inline tick(x) {                      /* c = 0: retired */
  atomic { if :: ret[x] -> c = 0 :: else -> hlc[x]++; c = hlc[x] fi } }
inline raise(x) { atomic { if :: tag[x] < c -> tag[x] = c :: else fi } }
inline bump() {                       /* N7, R10, R12, of handle x */
  tick(x);
#ifdef NORECHECK                      /* mutation: raises the old segment, retired or not */
  if :: c == 0 -> c = hlc[x] :: else fi;
#endif
  if
  :: c != 0 -> raise(x); EV(x)
  :: else ->
     y = name;
#ifndef NOGAPEVENT                    /* mutation: leaves local hits of the old segment alone */
     EV(x);
#endif
     if :: y == x                     /* the gap: no fill of the successor has begun */
        :: else -> tick(y); raise(y); EV(y)
     fi; y = 0
  fi; c = 0 }

#ifdef INV
proctype Inv() { byte n, c, i; bit x, y;
  x = name;                           /* a process may start at any time */
  do
  :: i < INV ->
     atomic { began++; n = began };
     bump();
     atomic { donex = n; i++ };
     if :: state[x] -> x = name :: else fi
  :: else -> break
  od }
#endif

#ifdef COM
proctype Com() { bit x, y, mortal; byte c;
#ifndef RDEATH                        /* else it dies only in COMMIT: enough with a dying retirer */
  mortal = 1;
#endif
  x = name;
announce:
  own[x] = 1; D;                      /* N1; N2 */
  pend[x] = 1; D;                     /* N3, N4 */
  EV(x); D;                           /* N5 */
#ifndef OLDONLY                       /* mutation: does not look whether the segment retired */
  if
  :: state[x] ->                      /* R11 */
#ifndef WAITHOLDING                   /* mutation: keeps the lane while it waits */
     pend[x] = 0; D; own[x] = 0; D;
     (name == 1);
#else
     (name == 1); pend[x] = 0; own[x] = 0;
#endif
     x = 1; goto announce
  :: else
  fi;
#endif
  D;
  if
  :: db++                             /* N6 */
  :: inflight = 1; goto crash
  fi;
  D;
  bump(); D;                          /* N7, R12 */
  pend[x] = 0; D;
  own[x] = 0;
  goto out;
crash: dead[1] = 1;
out: skip }

proctype Server() {
end: do :: atomic { inflight -> if :: db++ :: skip fi; inflight = 0 } od }

proctype Reap() { bit x, y; byte c;   /* serves whichever segment has a dead owner's lane */
end:
  do
  :: atomic { own[0] == 1 && dead[1] -> own[0] = 3; x = 0 } -> goto reap
  :: atomic { own[1] == 1 && dead[1] -> own[1] = 3; x = 1 } -> goto reap
  od;
reap:
  bump();
  !inflight;
  bump();
  pend[x] = 0;
  own[x] = 0;
  goto end }

proctype Window() { byte c;           /* R9 */
end:
#ifdef SHORTWINDOW                    /* mutation: it ends at any time */
  atomic { window[1] -> window[1] = 0 }
#else
  (window[1] && (own[0] == 0 || (dead[1] && !inflight)));
#ifdef ROOTATEND
  atomic { hlc[1]++; c = hlc[1] }; root[1] = c; EV(1);
#endif
  window[1] = 0
#endif
}
#endif

inline retireclock() {                                    /* R3 */
#ifdef EXCHANGE                       /* mutation: the old clock is known to this process only */
  atomic { if :: ret[0] -> c = 0 :: else -> c = hlc[0]; ret[0] = 1; hlc[0] = ONES fi };
#elif defined(ONESTEP)
  atomic { if :: !ret[0] -> saved = hlc[0]; ret[0] = 1; hlc[0] = ONES :: else fi; c = saved };
#else
  do
  :: c = hlc[0]; D;
     if
     :: ret[0] -> break
     :: else ->
        if :: saved < c -> saved = c :: else fi; D;
        atomic { if :: !ret[0] && hlc[0] == c -> ret[0] = 1; hlc[0] = ONES; break :: else fi }
     fi
  od;
  c = saved;
#endif
  D }

proctype Retire(byte me) { bit mortal, w; byte c;
#ifdef RDEATH
  mortal = (me == 4);
#endif
  atomic { lock == 0 || dead[lock] -> lock = me };        /* R1 */
  if :: name == 1 -> goto done :: else fi;
  D;
#ifdef EARLY                          /* mutation: published before the old one is retired */
  hlc[1] = hlc[0] + 1; root[1] = hlc[1]; name = 1;
#endif
#ifdef CLOCKBEFOREROOT
  retireclock(); root[0] = ONES; D;   /* mutation: hits go on for a while after the clock */
#else
  root[0] = ONES; D;                  /* R2 */
  retireclock();
#endif
#ifndef NOSTATE
  state[0] = 1; D;                    /* R4 */
#endif
#ifndef NORETIREEVENT                 /* mutation: local hits go on */
  EV(0); D;                           /* R5 */
#endif
  if
  :: own[0] == 0                      /* R6 */
#ifdef NOWAIT                         /* mutation: neither waits nor opens a window */
  :: true
#elif !defined(PATIENT)
  :: w = 1
#endif
  fi;
  D;
#ifdef CLOCKLOW                       /* mutation: the successor's clock starts anew */
  c = 0;
#endif
  atomic { hlc[1] = c + 1; root[1] = c + 1; window[1] = w };   /* R7: nobody else sees it yet */
  D;
#ifndef EARLY
  name = 1;                           /* R8 */
#endif
done: lock = 0; goto out;
crash: dead[me] = 1;
out: skip }

proctype Fill() { byte s, v, g, n; bit x;
  x = name;
  do
  :: n < NF ->
     n++;
     if :: state[x] -> x = name :: else fi;
     atomic { s = hlc[x]; if :: ret[x] -> s = 0 :: else fi };          /* R13 */
#ifdef STAMPONES                      /* mutation: a stamp is taken from the retired clock word */
     if :: s == 0 -> s = ONES :: else fi;
#endif
     if :: s == 0 -> x = name; goto next :: else fi;
#if !defined(STAMPINWINDOW) && !defined(ROOTATEND)   /* mutation: stamps are given while the window is open */
     if :: window[x] -> goto next :: else fi;
#endif
     atomic { v = db; g = began };
#ifdef NOSEGCHECK                     /* any handle; the successor's root word is the guard */
     x = name;
     if :: s < root[x] || s > hlc[x] -> goto next :: else fi;
#endif
     atomic { rs[x] = s; rv[x] = v; rg[x] = g; rok[x] = 1 };
next: s = 0; v = 0; g = 0
  :: else -> break
  od }

proctype Get() { byte n, r, ri, e, le, ls, lvv, lg, s, v, g; bit x, lv, ok, good;
  x = name;
  do
  :: n < NG ->
     atomic { r = db; ri = donex };
     e = ev[x]; good = 0;
     if :: lv && e == le -> assert(lvv >= r && lg >= ri); goto next
        :: lv && e != le -> s = ls; v = lvv; g = lg; ok = 1
        :: else -> atomic { s = rs[x]; v = rv[x]; g = rg[x]; ok = rok[x] }
     fi;
     if
     :: ok && !window[x] && !pend[x] ->
        good = (!ret[x] && hlc[x] <= s);                  /* nothing ticked since the stamp */
#ifdef STAMPONES
        good = (hlc[x] <= s || (ret[x] && s == ONES));
#endif
        if :: !good -> good = (root[x] <= s); if :: good -> good = (tag[x] <= s) :: else fi
           :: else fi
     :: else
     fi;
     if
     :: good -> assert(v >= r && g >= ri);
#ifdef LOCAL
        lv = 1; ls = s; lvv = v; lg = g; le = e
#else
        skip
#endif
     :: else -> lv = 0; if :: state[x] -> x = name :: else fi          /* R14 */
     fi;
next: atomic { n++; e = 0; s = 0; v = 0; g = 0; ok = 0; good = 0; r = 0; ri = 0 }
  :: else -> break
  od }

init { atomic {
  run Retire(4);
#ifdef RDEATH
  run Retire(5);
#endif
#ifdef INV
  run Inv();
#endif
#ifdef COM
  run Com(); run Server(); run Reap(); run Window();
#endif
  run Fill(); run Get()
} }
