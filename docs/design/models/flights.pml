/* Flights: one computation per key on the whole host.
 *
 * A flight word is {state, key hash, owner slot, sequence}; the deadline is part of it and is
 * modelled by `late`: flights of owner o up to sequence late[o] are past their deadline.
 * Free = 0 or a tombstone (FAILED, UNSTORED). A word is live if its owner slot is held, its
 * sequence is not from before the present holder took that slot, and its deadline is not past.
 *
 * Steps (cite these in C)
 *  F1  get, validated as ever; a hit returns
 *  F2  load the flight word
 *  F3  claim: CAS from the exact free word to an own word with a new sequence
 *  F4  after a claim, get once more: a fill may have come between F1 and F3; a hit releases to 0
 *  F5  stamp, then compute
 *  F6  store as any fill
 *  F7  release: CAS from the own exact word; 0 after a stored fill, FAILED after an exception,
 *      UNSTORED if the result was not stored (born dead, refused, too large)
 *  F8  a live flight of this key, and this thread holds none: wait till the word changes, its
 *      owner is dead or its deadline past
 *  F9  overtake: CAS from the exact word of a dead or late owner to an own word, then F4
 *  F10 after a wait: get (F1). On a miss: 0 or UNSTORED: try F3 once, and compute in any case;
 *      FAILED: F3, and who loses waits again; another live flight: wait again
 *  F11 a live flight, but this thread holds one, or the word is another key's: compute without
 *      a flight (F5, F6)
 *
 * Properties: lead[k] <= 1: never two leaders of a key that are neither dead nor late.
 * STRICT (nothing is invalidated, unstored or nested; nobody dies or is late): never two
 * computations of a key at once; without exceptions exactly one in all. No value from before an
 * invalidation that returned before the get began. No invalid end state: nobody waits for ever.
 *
 * -DNP=n processes; -DNK=n slots for the 2 keys (1: they share a word); -DNG=n gets each
 * -DFAIL exceptions; -DUNST results that are not stored; -DINV n invalidations of key 0
 * -DDEATH  any process but the last may die at any step; -DREUSE  a new one takes its owner slot
 * -DLATE   deadlines pass; -DNEST  computing one key needs the other
 */
#ifndef NP
#define NP 3
#endif
#ifndef NK
#define NK 2
#endif
#ifndef NG
#define NG 1
#endif
#define SLOT(k) (k % NK)
#define W(state, k, o, q) (state + 4*(k) + 8*(o) + 64*(q))
#define FLYING 1
#define FAILED 2
#define UNSTORED 3
#define state(w) ((w) & 3)
#define keyof(w) (((w) >> 2) & 1)
#define owner(w) (((w) >> 3) & 7)
#define seqof(w) ((w) >> 6)
#if !defined(FAIL) && !defined(UNST) && !defined(INV) && !defined(DEATH) && !defined(LATE) && !defined(NEST) && NK == 2
#define ONCE
#endif
#if !defined(UNST) && !defined(INV) && !defined(DEATH) && !defined(LATE) && !defined(NEST) && NK == 2
#define STRICT
#endif

short word[NK];
bit dead[NP+1];
byte seqn[NP+1], base[NP+1], late[NP+1];   /* by owner slot; base: first sequence of its holder */
bit has[2]; byte st[2], gh[2];             /* the entry: stamp, and which computation made it */
byte hlc = 1, clk[2];
byte began[2], donex[2];                   /* ghost: invalidations begun, returned */
byte lead[2], comp[2], total[2];           /* ghost */
byte alive = NP;
short hold[NP+1];                          /* ghost: the word of the flight that is led in time */
#ifdef HANDOVER
bit hand[2]; byte handed[2];
#endif

#ifdef NOSEQ                               /* mutation: no sequence in the word */
#define isdead(w) (dead[owner(w)])
#define NEWWORD(k) W(FLYING, k, me, 0)
#else
#define isdead(w) (dead[owner(w)] || seqof(w) < base[owner(w)] || seqof(w) <= late[owner(w)])
#define NEWWORD(k) W(FLYING, k, me, seqn[me])
#endif
#ifdef NOOVERTAKE                          /* mutation: a dead owner's word is never taken */
#define live(w) (state(w) == FLYING)
#else
#define live(w) (state(w) == FLYING && !isdead(w))
#endif

#ifdef DEATH
#define STEP if :: true :: alive > 1 && !done -> goto die fi;
#else
#define STEP
#endif

#define KEY (lvl -> 1 - k : k)

inline claimed(x) {
  lead[KEY]++; assert(lead[KEY] <= 1); mine[lvl] = x;
  if :: lvl == 0 -> hold[me] = x :: else fi }
inline unlead() {                          /* ghost: the flight that this process led ends */
  if :: lvl == 0 -> if :: hold[me] != 0 -> lead[KEY]--; hold[me] = 0 :: else fi
     :: else -> lead[KEY]-- fi }

proctype P(byte me; byte k) {
  short w, mine[2]; byte s[2], g[2], r[2], waits, n, rounds; bit lvl, waited, done, must, ok;
again:
  waits = 0; rounds = 0;
F1:
  r[lvl] = donex[KEY]; waited = 0; must = 0;
read:
  STEP
  atomic { ok = has[KEY]; s[lvl] = st[KEY]; g[lvl] = gh[KEY] }   /* the copy */
  STEP
  if :: ok && s[lvl] >= clk[KEY] -> assert(g[lvl] >= r[lvl]); goto got :: else fi;
  rounds++; assert(rounds <= 3 * NP * NG + 3);
F2:
  STEP
  w = word[SLOT(KEY)];
  if
  :: !live(w) && state(w) != FLYING ->     /* free: 0 or a tombstone */
     must = (waited && !(state(w) == FAILED && keyof(w) == KEY));
     STEP
F3:  atomic { if :: word[SLOT(KEY)] == w -> seqn[me]++; word[SLOT(KEY)] = NEWWORD(KEY);
                    claimed(word[SLOT(KEY)])
                 :: else -> if :: must -> goto compute
                               :: else -> goto F2 fi fi }
     goto reget
#ifndef NOOVERTAKE
  :: !live(w) && state(w) == FLYING ->     /* its owner is dead or late */
     STEP
F9:  atomic { if
#ifdef BLINDTAKE                           /* mutation: takes over whatever is there now */
                 :: true ->
#else
                 :: word[SLOT(KEY)] == w ->
#endif
                    seqn[me]++; word[SLOT(KEY)] = NEWWORD(KEY);
                    claimed(word[SLOT(KEY)])
#ifndef BLINDTAKE
                 :: else -> goto F2
#endif
              fi }
     goto reget
#endif
  :: live(w) && keyof(w) != KEY -> goto compute   /* F11 */
  :: live(w) && keyof(w) == KEY ->
#ifndef HOLDERWAITS                        /* mutation: who holds a flight waits for another */
     if :: lvl == 1 && mine[0] != 0 -> goto compute :: else fi;   /* F11 */
#endif
     waits++; assert(waits <= NP * NG);
F8:  (word[SLOT(KEY)] != w || !live(w));
     waited = 1;
#ifdef HANDOVER                            /* mutation: the leader's value is handed to waiters */
     if :: hand[KEY] -> g[lvl] = handed[KEY]; assert(g[lvl] >= r[lvl]); goto got :: else fi;
#endif
     goto read                             /* F10 */
  fi;
reget:                                     /* F4 */
#ifndef NOREGET
  STEP
  atomic { ok = has[KEY]; s[lvl] = st[KEY]; g[lvl] = gh[KEY] }
  if :: ok && s[lvl] >= clk[KEY] -> assert(g[lvl] >= r[lvl]); w = 0; goto release :: else fi;
#endif
compute:                                   /* F5 */
  STEP
  atomic { s[lvl] = hlc; g[lvl] = began[KEY]; comp[KEY]++; total[KEY]++;
#ifdef STRICT
    assert(comp[KEY] <= 1);
#endif
#ifdef ONCE
    assert(total[KEY] <= 1);
#endif
  }
#ifdef NEST
  if :: lvl == 0 -> lvl = 1; mine[1] = 0; goto F1 :: else fi;
back:
#endif
  STEP
  comp[KEY]--;
#ifdef HANDOVER
  atomic { hand[KEY] = 1; handed[KEY] = g[lvl] }
#endif
  if
  :: w = 0;                                /* F6; a fill never replaces a newer one */
     STEP
     if :: s[lvl] < clk[KEY] -> w = W(UNSTORED, KEY, 0, 0)      /* born dead */
        :: else -> STEP
           atomic { if :: !has[KEY] || st[KEY] <= s[lvl] ->
                          has[KEY] = 1; st[KEY] = s[lvl]; gh[KEY] = g[lvl]
                       :: else fi }
     fi
#ifdef UNST
  :: w = W(UNSTORED, KEY, 0, 0)
#endif
#ifdef FAIL
  :: w = W(FAILED, KEY, 0, 0)
#endif
  fi;
#ifdef NOTOMB                              /* mutation: every release is to 0 */
  w = 0;
#endif
release:                                   /* F7 */
  if :: mine[lvl] != 0 ->
     STEP
     atomic { unlead();
#ifdef BLINDREL                            /* mutation: release by a plain store */
              word[SLOT(KEY)] = w;
#else
              if :: word[SLOT(KEY)] == mine[lvl] -> word[SLOT(KEY)] = w :: else fi;
#endif
              mine[lvl] = 0; w = 0 }
  :: else fi;
got:
  w = 0; s[lvl] = 0; g[lvl] = 0; r[lvl] = 0;
#ifdef NEST
  if :: lvl == 1 -> lvl = 0; goto back :: else fi;
#endif
  n++;
  if :: n < NG -> goto again :: else fi;
  done = 1;
  goto fin;
die:
  atomic {                                 /* the kernel drops the owner's lock */
    if :: hold[me] != 0 -> lead[k]--; hold[me] = 0 :: else fi;
    if :: lvl == 1 && mine[1] != 0 -> lead[1-k]-- :: else fi;
    alive--; dead[me] = 1; mine[0] = 0; mine[1] = 0; lvl = 0; w = 0 }
#ifdef REUSE
  atomic { dead[me] = 0; base[me] = seqn[me] + 1; done = 1; n = NG - 1; goto again }
#endif
fin: skip
}

#ifdef LATE
proctype Deadline() {                      /* the deadline of a flight passes */
  byte o;
  do
  :: atomic { hold[1] != 0 -> o = 1; late[o] = seqn[o]; lead[keyof(hold[o])]--; hold[o] = 0 }
  :: atomic { hold[2] != 0 -> o = 2; late[o] = seqn[o]; lead[keyof(hold[o])]--; hold[o] = 0 }
  :: break
  od }
#endif
#ifdef INV
proctype Inv() { byte n, c, i;
  do :: i < INV -> began[0]++; n = began[0];
        atomic { hlc++; c = hlc }; clk[0] = c; donex[0] = n; i++
     :: else -> break od }
#endif

init { atomic {
  run P(1, 0); 
#ifdef NEST
  run P(2, 1);
#else
  run P(2, 0);
#endif
#if NP > 2
  if :: run P(3, 0) :: run P(3, 1) fi;
#endif
#ifdef LATE
  run Deadline();
#endif
#ifdef INV
  run Inv();
#endif
} }
