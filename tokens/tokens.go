// Package tokens is the vocabulary of the socket API: PToken, how one connection or datagram is
// protected, and IToken, who is at an end of it.
//
// The names and their meaning come from five documents: draft-komu-btns-api-01,
// draft-ietf-btns-c-api of February 2008, the BTNS API proposal slides,
// draft-ietf-btns-c-api-02 and the connection latching draft that became RFC 5660. Their
// enumerations have no numbers in print, so the numbers here are ours; where RFC 2367 has a
// number it is used (IToken.IdentType, Info.SAState).
//
// # Kinds
//
// A PToken is a template, which may be written and read and does nothing; bound, the snapshot
// taken when a template is set on a socket; or live, read from a connection, which answers from
// the connection as it is now. Setting a live one fails with ErrLatched: what is latched does not
// change (RFC 5660, Section 2). The zero PToken is an empty template.
//
// An IToken is a comparable value. It never describes more than was proven: a peer that is only
// a key has no name but its key, and before authentication ends there is ErrNotYet.
//
// # The functions of the documents
//
//	ipsec_create_pToken, get_new_pToken       new(PToken), PToken.SetPeer, PToken.SetLocal
//	ipsec_free_pToken                         nothing; PToken.Close is allowed
//	ipsec_create_iToken, get_new_iToken(name) NewIToken, ParseIToken
//	ipsec_free_iToken                         nothing
//	ipsec_get_token_attr, ipsec_get_policy_attr, ipsec_get_channel_attr
//	                                          PToken.Attr, IToken.Attr, or the typed methods
//	ipsec_set_token_attr, ipsec_set_policy_attr, ipsec_set_channel_attr
//	                                          PToken.SetAttr, or the typed methods
//	ipsec_cmp_pToken, ipsec_cmp_policy        PToken.Equal
//	ipsec_dup_pToken, ipsec_dup_policy        PToken.Clone
//	ipsec_cmp_channel_info                    == on IToken
//	ipsec_get_socket_pToken, ipsec_get_socket_policy, ipsec_get_socket_channel_info
//	                                          sockets.PTokenFrom
//	ipsec_set_socket_pToken, ipsec_set_socket_policy, ipsec_set_socket_channel_info
//	                                          sockets.Dialer.PToken, sockets.ListenConfig.PToken
//	ipsec_get_msg_pToken, ipsec_get_msg_policy   sockets.PacketConn.ReadMsg
//	ipsec_set_msg_pToken, ipsec_set_msg_policy   sockets.PacketConn.WriteMsg
//	DEFAULT_INITIATOR_ITOKEN                  the zero IToken
//	IPSEC_DEFAULT_POLICY                      the zero PToken
//	IPSEC_BTNS_STANDALONE                     PToken.SetMethod(MethodBTNS, LevelEnable)
//	IPSEC_BTNS_CHANNEL_BINDING, channelBinding, ipsec_openssl_to_channel_info   later
//	IPSEC_BTNS_CREDENTIAL, IPSEC_BTNS_CREDENTIAL_FILE                           later
//
// # Ownership and concurrency
//
// ITokens and Infos are values. A template must not be written by two goroutines at once; bound
// and live tokens may be read by any number. No method blocks. Nothing here holds a secret.
//
// # Limits
//
// All text is bounded and free of control characters (limits.go). PTokens belong to one process
// and refuse to be serialised; an IToken has a text form, which means something only relative to
// the trust anchors of the system that made it.
package tokens
