"""Which settings the embedded PostgreSQL gets: they follow the machine."""

import os


def sensible_settings(memory: int, disk: int) -> dict[str, str]:
    """Server settings for a machine that PostgreSQL shares with Kaskad and Temporal.

    Args:
        memory: bytes of the whole machine.
        disk: bytes free for the data folder.
    """
    megabytes = memory >> 20
    wal = max(256, min(4096, (disk >> 20) // 10))
    return {
        "shared_buffers": f"{max(64, min(2048, megabytes // 8))}MB",
        "effective_cache_size": f"{max(128, megabytes // 2)}MB",
        "work_mem": f"{max(4, min(64, megabytes // 256))}MB",
        "maintenance_work_mem": f"{max(64, min(512, megabytes // 16))}MB",
        "max_connections": "200",
        "max_wal_size": f"{wal}MB",
        "min_wal_size": f"{wal // 4}MB",
        "checkpoint_timeout": "15min",
        "wal_compression": "on",
        "random_page_cost": "1.1",
        "jit": "off",
        "autovacuum_naptime": "15s",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_duration_statement": "2s",
        "log_line_prefix": "%m [%p] ",
        "log_checkpoints": "off",
    }


def memory() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
