package pad

const (
	// MaxEntries bounds a database: ten times the largest size that is measured.
	MaxEntries = 1_000_000
	// MaxIDs, MaxKeys and MaxPSKs bound the lists of one entry.
	MaxIDs  = 1024
	MaxKeys = 1024
	MaxPSKs = 1024
	// MaxIDLen bounds an identity's data; the longest that makes sense is a distinguished name.
	MaxIDLen = 1024
	// MaxSPKI bounds a public key: RSA with 16,384 bits has some 2,100 octets.
	MaxSPKI = 4096
	// maxShown bounds an identity in a message.
	maxShown = 128
)
