package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Row is one row of the record: a mistake that somebody made in IPsec, or in something like it,
// and that a test of ours would catch.
type Row struct {
	CVEs    []string // without "CVE-"; a row is also called ROW-n, and one without a CVE only that
	Where   string
	Mistake string
}

// Record is the record: its first row is ROW-1.
func Record() []Row {
	cve := func(where, mistake string, ids ...string) Row { return Row{ids, where, mistake} }
	return []Row{
		cve("strongSwan", "CREATE_CHILD_SA mishandled by the state machine: no authentication", "2026-78135"), // 1
		cve("strongSwan", "rekeying a half-open IKE SA establishes it", "2014-2338"),
		cve("strongSwan", "an early EAP-Success skips authentication", "2021-45079"),
		cve("strongSwan", "MSCHAPv2 success taken without looking at the local state", "2015-8023"),
		cve("strongSwan", "what the responder must prove is asked for too late", "2015-4171"), // 5
		cve("strongSwan", "one variable for two purposes: an untrusted certificate is taken", "2023-26463"),
		cve("charon-tkm", "length of the public value not checked", "2023-41913"),
		cve("strongSwan", "a group for internal use is taken from the wire", "2014-9221"),
		cve("strongSwan", "payload types of the other IKE version", "2015-3991"),
		cve("strongSwan 4.3.1", "wrong check for a missing payload; half a state is left behind"), // 10
		cve("strongSwan", "DER names of different lengths compared", "2013-6075"),
		cve("strongSwan", "crafted fragment", "2013-6076"),
		cve("strongSwan", "an identity crashes the guess whether it is ASN.1", "2013-5018"),
		cve("strongSwan", "lax parsing of PKCS#1 v1.5: forgery for e = 3", "2018-16151", "2018-16152"),
		cve("strongSwan", "the fix of that underflows for tiny moduli", "2018-17540"), // 15
		cve("strongSwan", "signature equal to n, degenerate e and n", "2017-11185", "2017-9022"),
		cve("strongSwan", "ASN.1 CHOICE: endless loop", "2017-9023"),
		cve("strongSwan", "PRF that the build has no implementation of", "2018-10811"),
		cve("strongSwan", "salt length of RSA-PSS overflows", "2021-41990"),
		cve("strongSwan", "replacement in a full cache overflows", "2021-41991"), // 20
		cve("strongSwan", "URIs in untrusted certificates are fetched", "2022-40617"),
		cve("strongSwan", "length of an EAP-TTLS AVP underflows", "2026-25075"),
		cve("strongSwan", "name constraints of X.509 not enforced", "2026-35331"),
		cve("strongSwan", "loops and overreads in many parsers, the ECDH value and RSA among them",
			"2026-35328", "2026-35329", "2026-35330", "2026-35332", "2026-35333", "2026-35334"),
		cve("pluto", "liveness message without an SA", "2009-0790"), // 25
		cve("strongSwan", "length not checked on the local control socket", "2018-5388"),
		cve("charon-nm", "one local user uses another's credentials", "2025-9615"),
		cve("libreswan", "falls into the code of EAP that is switched off", "2026-77206"),
		cve("libreswan", "IKE over TCP: state used after its connection closed", "2026-94453"),
		cve("libreswan", "unknown payloads around fragments: one too many for an array", "2026-12413"), // 30
		cve("libreswan", "length and DER of the signed hash not checked", "2026-50721", "2026-50722"),
		cve("libreswan", "exponent 0 in a key", "2026-14957"),
		cve("libreswan", "a proposal of AES-GMAC needs 0 octets of key", "2024-3652"),
		cve("libreswan", "protocol of REKEY_SA echoed unseen", "2023-38710"),
		cve("libreswan", "notifies act on the SA that the same message deleted", "2023-38712"), // 35
		cve("libreswan", "malformed traffic selector", "2023-23009"),
		cve("libreswan", "SPI shown in a refusal", "2023-30570"),
		cve("libreswan", "log line about a state that was never made", "2022-23094", "2020-1763"),
		cve("libreswan", "INFORMATIONAL before IKE_AUTH: answered under no key", "2019-12312"),
		cve("libreswan, openswan, strongSwan", "ICV of one exchange not verified", "2019-10155"), // 40
		cve("libreswan", "proposal without a key exchange", "2016-5391"),
		cve("libreswan", "a default suite that the library does not have", "2016-3071"),
		cve("libreswan", "public value of zero", "2015-3240"),
		cve("libreswan", "text of an error longer than its buffer", "2015-3204"),
		cve("libreswan, openswan", "payloads withheld or renumbered", "2013-6467", "2013-6466"), // 45
		cve("libreswan", "too short packets pass since padded ones do", "2013-4564"),
		cve("OpenBSD iked", "result of a bare key's verification misread", "2020-16088"),
		cve("OpenIKED 2021-01-20", "the initiator does not insist on the peer's identity"),
		cve("OpenBSD iked 2026-04-04", "overread, null and inconsistent state on input"),
		cve("OpenIKED 2025-04-08", "peer's address updated before its packet is authenticated"), // 50
		cve("OpenIKED 2025-04-08", "each received fragment makes all of the answer come again"),
		cve("OpenIKED 2021-11-12", "SA changed before the fragment is decrypted"),
		cve("OpenIKED 2020-09-21", "the first received fragment, not the first, says what follows"),
		cve("OpenIKED 2022-07-04", "nonces compared the wrong way: the wrong child SA is deleted"),
		cve("OpenIKED 2020-09-30", "AUTH method 0 taken, a second AUTH not noticed"), // 55
		cve("isakmpd", "no replay window where it is the responder", "2006-4436"),
		cve("racoon", "the PROTOS suite of malformed messages", "2005-3732", "2006-1646"),
		cve("racoon", "a list of fragments walked in quadratic time", "2016-10396"),
		cve("racoon", "signature not verified", "2004-0155"),
		cve("WatchGuard iked", "length of the identification not checked", "2025-9242"), // 60
		cve("Check Point", "verification of the certificate's signature can be skipped", "2026-50751"),
		cve("Windows", "memory lost with each crafted message", "2026-35424"),
		cve("Linux ESP", "decryption in place over what the packet does not own", "2026-43284"),
		cve("Linux IPTFS", "ownership lost on another path", "2026-64566"),
		cve("Linux ESP", "trailer makes the packet longer than a page", "2026-63912", "2022-27666"), // 65
		cve("Linux xfrm6", "depth of nesting, off by one", "2026-89783"),
		cve("Linux xfrm", "a dead SA is used: its state was read outside the lock", "2026-72451"),
		cve("mlx5", "one wrap of the extended sequence number counted twice", "2026-23440"),
		cve("Linux xfrm, commit 3b59df46", "high half guessed before decryption, not looked at after it"),
		cve("Linux xfrm, commit e1af9f27", "outbound sequence number wraps"), // 70
		cve("Linux xfrm", "size of the replay state from the control plane", "2017-7184", "2023-3772"),
		cve("Linux xfrm", "SPI 0 means none, and finds one", "2025-39965"),
		cve("FreeBSD, NetBSD", "sequence number not stored: replays pass", "2006-0905"),
		cve("FreeBSD", "inner packets of an authenticated peer not validated", "2018-6916"),
		cve("Windows", "fragment header inside ESP", "2022-34718"), // 75
		cve("free5gc 968", "first payload of an empty list"),
		cve("free5gc 940, 1073", "transform length 9; SPI size beyond the proposal"),
		cve("free5gc 997", "pad length beyond the plaintext; recover ends the process"),
		cve("free5gc 984, 938", "address attribute of 1 to 3 octets; EAP of 4"),
		cve("free5gc 972", "public value not checked"), // 80
		cve("Cilium", "one key on several nodes: (key, IV) twice", "2024-28860"),
		cve("x/crypto/ssh", "the key that was offered is believed, not the one that authenticated", "2024-45337", "2026-46595"),
		cve("x/crypto/ssh", "restrictions forgotten after a partial success", "2026-39828"),
		cve("x/crypto/ssh", "a length cast to an octet in the AES-GCM decoder", "2026-46597"),
		cve("x/crypto/ssh", "short key, short packet", "2020-9283", "2021-43565"), // 85
		cve("x/crypto/salsa20", "key stream repeats after 32 bits of counter", "2019-11840"),
		cve("x/crypto/ssh (Terrapin)", "messages removed in front of the handshake", "2023-48795"),
		cve("x/crypto/ssh", "no bound of memory before authentication", "2025-58181", "2025-22869"),
		cve("gVisor", "predictable ports and identifiers", "2024-10603", "2024-10026"),
		cve("gVisor, May 2026", "any reset in the window closes a connection"), // 90
		cve("quic-go", "the peer makes a queue grow; forged ICMP too big", "2024-22189", "2023-49295", "2024-53259"),
		cve("wireguard-go 12269c2, b5f966a, 7086168, 7c971d7", "deadlock at close, elements left over, races"),
		cve("strongSwan issue 3053", "SA expires before it is rekeyed: traffic in clear"),
		cve("Openswan issue 32", "a restart leaves an empty policy: traffic in clear"),
		cve("many (TunnelCrack)", "local routes and server addresses pull traffic out of the tunnel", "2023-36672", "2023-36673"), // 95
		cve("IKE itself (Felsch et al., 2018)", "weak pre-shared keys are found offline; one key for two uses"),
		cve("IKEv2 itself (Ninet et al., 2019; SLOTH)", "half-open exhaustion, weak hashes, group downgrade"),
	}
}

// Excused are the rows that this release can't get wrong, each with the reason. One that gets a
// test is taken out here.
func Excused() map[string]string {
	return map[string]string{
		"ROW-4":  "there is no EAP, and so no EAP-MSCHAPv2; that EAP is refused is ROW-3 and ROW-28",
		"ROW-22": "there is no EAP-TTLS",
		"ROW-23": "certificates are not verified yet: an X.509 chain proves nothing, and none is accepted (ROW-61)",
		"ROW-29": "there is no IKE over TCP",
	}
}

// names are the IDs that a test may carry for row n of the record.
func (r Row) names(n int) []string {
	ids := []string{"ROW-" + strconv.Itoa(n)}
	for _, id := range r.CVEs {
		ids = append(ids, "CVE-"+id)
	}
	return ids
}

// RecordReport says which rows of the record are tested and which are excused.
type RecordReport struct {
	Tested, Excused int
	Wrong           []string // rows that are neither or both, excuses for nothing, names of no row
}

// CompareRecord checks tests and excuses against the record: each row is one or the other.
func CompareRecord(c Covered, record []Row, excused map[string]string) RecordReport {
	var r RecordReport
	wrong := func(format string, args ...any) { r.Wrong = append(r.Wrong, fmt.Sprintf(format, args...)) }
	known := map[string]bool{}
	for i, row := range record {
		names := row.names(i + 1)
		tested := false
		for _, id := range names {
			if known[id] {
				wrong("%s is in two rows", id)
			}
			known[id] = true
			tested = tested || len(c[id]) > 0
		}
		reason, excuse := excused[names[0]]
		all := fmt.Sprintf("%s (%s: %s)", strings.Join(names, ", "), row.Where, row.Mistake)
		switch {
		case tested && excuse:
			wrong("%s is tested and excused", all)
		case tested:
			r.Tested++
		case excuse && reason == "":
			wrong("%s is excused without a reason", all)
		case excuse:
			r.Excused++
		default:
			wrong("no test carries %s, and nothing excuses it", all)
		}
	}
	for id := range excused {
		if !known[id] || !strings.HasPrefix(id, "ROW-") {
			wrong("the excuse for %s is for no row", id)
		}
	}
	for id, at := range c {
		if (strings.HasPrefix(id, "CVE-") || strings.HasPrefix(id, "ROW-")) && !known[id] {
			wrong("no row is called %s: %s", id, strings.Join(at, ", "))
		}
	}
	slices.Sort(r.Wrong)
	return r
}
