// Package netstack is the only importer of gVisor: one TCP/IP host in this process, with hooks below and sockets above.
package netstack
