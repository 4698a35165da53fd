"""``streamsr watch``: many cameras on one machine, each in a process of its own, kept alive for months.

The supervisor starts one model process and one process a camera, and restarts what dies. It loads none
of torch, av and mediapipe; a camera's process loads no torch. The modules ``ray_*`` do the same on the many
machines of a Ray cluster, with the same processes.
"""
