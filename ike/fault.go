package ike

// fault switches historic mistakes on, so that tests can show that they would be caught.
// Config.faults is zero outside this package's tests, and nothing outside can set it.
type fault uint16

const (
	faultEarlyChild   fault = 1 << iota // CREATE_CHILD_SA before IKE_AUTH (CVE-2014-2338, CVE-2026-78135)
	faultNonceOrder                     // the higher nonce loses (OpenIKED 2022-07-04)
	faultNoICV                          // integrity of one exchange is not checked (CVE-2019-10155)
	faultCloseTwice                     // acts on after the Delete that destroyed the SA (CVE-2023-38712)
	faultEarlyMove                      // address updated before the packet is authenticated (OpenIKED 2025-04-08)
	faultEachResend                     // every fragment makes the answer come again (OpenIKED 2025-04-08)
	faultFirstSeen                      // the first received fragment names the payload (OpenIKED 2020-09-21)
	faultMissing                        // a payload that is missing is not noticed (CVE-2013-6467, CVE-2026-77206)
	faultWiden                          // the responder's wider selectors are taken (libreswan's impair)
	faultExecuteTwice                   // a repeated request is executed again
	faultShowSPI                        // the responder's SPI in a refusal (CVE-2023-30570)
	faultNoVerify                       // the peer's AUTH does not count (CVE-2004-0155)
	faultHasty                          // sends under the new child SA at once: packets are lost at every rekeying
	faultEchoSPI                        // REKEY_SA's protocol echoed unseen (CVE-2023-38710)
)

func (m *Machine) faulty(f fault) bool { return m.cfg.faults&f != 0 }
