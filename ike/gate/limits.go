package gate

import "time"

// Limits, each with its reason. A Config field replaces the one it names; the others are fixed.
const (
	// DefaultMaxHalfOpen bounds SAs that have not authenticated. One costs the responder about
	// 10 KiB (the received request, the key pair, derived keys), so this is 20 MiB at worst.
	DefaultMaxHalfOpen = 2048

	// DefaultMaxPerAddr bounds half-open SAs of one address. Many clients may share a NAT, and
	// each of them holds a slot for one or two round trips only.
	DefaultMaxPerAddr = 64

	// DefaultMaxPerPrefix bounds half-open SAs of one IPv4 /24 or IPv6 /64: whoever has one
	// address of it can usually send from all (RFC 8019, Section 4.2).
	DefaultMaxPerPrefix = 256

	// DefaultCookieThreshold is the number of half-open SAs from which strangers must return a
	// cookie. RFC 8019, Section 6 takes 100 for a sign of attack where 20 are usual; a responder
	// that makes 1,500 SAs a second over a 60 ms path has 90.
	DefaultCookieThreshold = 128

	// DefaultHalfOpenLife outlasts a peer's retransmissions: ours end after 300 s, and
	// RFC 7296, Section 2.4 wants "several minutes" of everybody.
	DefaultHalfOpenLife = 330 * time.Second

	// DefaultBusyLife replaces DefaultHalfOpenLife while cookies are demanded. It still leaves
	// time for four or five retransmissions (RFC 8019, Section 4.1).
	DefaultBusyLife = 30 * time.Second

	// DefaultInitRate is how many new responders may start per second. Each costs a key pair
	// and a Diffie-Hellman computation, 0.1 ms with X25519 and 2 ms with MODP-2048 (RFC 8019,
	// Section 6, "the total amount of key exchanges"). Cookies are demanded from half of it.
	DefaultInitRate = 4000

	// maxInit is the longest IKE_SA_INIT request. It is kept for the AUTH signature, so it
	// counts as state; it can't be fragmented (RFC 7383, Section 2.3) and real ones are
	// 200 to 3,000 bytes, a post-quantum KE included.
	maxInit = 16 << 10

	// cookieRotation is how long a cookie secret is current. It stays good for as long again,
	// so a peer has 30 to 60 s to come back (RFC 7296, Section 2.6: "change frequently").
	cookieRotation = 30 * time.Second

	// cookieMAC is the length of a cookie without its version octet: 128 bits cannot be
	// guessed, and 17 octets keep the answer shorter than any request that asks for it.
	cookieMAC = 16

	// answerRate and answerBurst bound unprotected error answers per second, to everybody
	// together (RFC 7296, Section 2.21.4); a peer needs one, an audit log not more.
	answerRate  = 20
	answerBurst = 40

	// answerGap is the time between two error answers to one source, and answerSlots the size
	// of the table that remembers them. Sources that share a slot share the gap.
	answerGap   = time.Second
	answerSlots = 512

	// maxRecent and recentLife bound what is remembered of requests whose SA is established,
	// to recognise a copy that the network delivers late (RFC 7296, Section 2.1).
	maxRecent  = 1024
	recentLife = 60 * time.Second
)

// Config tunes a [Gate]. The zero value has the defaults above. It is copied by [New].
type Config struct {
	MaxHalfOpen     int           // half-open SAs in all; 0 = DefaultMaxHalfOpen
	MaxPerAddr      int           // half-open SAs of one address; 0 = DefaultMaxPerAddr
	MaxPerPrefix    int           // half-open SAs of one /24 or /64; 0 = DefaultMaxPerPrefix
	CookieThreshold int           // half-open SAs from which cookies are demanded; 0 = DefaultCookieThreshold, negative = always
	HalfOpenLife    time.Duration // 0 = DefaultHalfOpenLife
	BusyLife        time.Duration // 0 = DefaultBusyLife
	InitRate        int           // new responders per second; 0 = DefaultInitRate
}

func (c Config) withDefaults() Config {
	defInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	defDur := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	defInt(&c.MaxHalfOpen, DefaultMaxHalfOpen)
	defInt(&c.MaxPerAddr, DefaultMaxPerAddr)
	defInt(&c.MaxPerPrefix, DefaultMaxPerPrefix)
	if c.CookieThreshold == 0 {
		c.CookieThreshold = DefaultCookieThreshold
	}
	defDur(&c.HalfOpenLife, DefaultHalfOpenLife)
	defDur(&c.BusyLife, DefaultBusyLife)
	defInt(&c.InitRate, DefaultInitRate)
	return c
}
