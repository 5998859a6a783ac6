"""What the requests of many clients come to, computed in blocks of lanes, on all threads that a process has."""
