package tokens

const (
	// MaxID bounds an identity's text. The longest IKE identity that makes sense is a
	// distinguished name.
	MaxID = 1024
	// MaxSPKI bounds a public key: RSA with 16,384 bits has some 2,100 octets.
	MaxSPKI = 4096
	// MaxDN bounds the text of a distinguished name.
	MaxDN = 2048
	// MaxAudit bounds an audit or information string as it is shown.
	MaxAudit = 512
	// MaxText bounds the text form of an IToken that ParseIToken reads.
	MaxText = 32768
	// MaxPolicyName bounds a policy's name.
	MaxPolicyName = 256
	// MaxSuites bounds the suites that a template may name.
	MaxSuites = 32
)
