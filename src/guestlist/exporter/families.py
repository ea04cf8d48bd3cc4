"""Every metric family that the exporter serves, in the order of the exposition. Pure.

In: nothing. Out: names, types, help and collectors. `from_xml`, `from_statistics`, `events` and
`jobs` say where the samples come from. docs/metrics.md has a line for each family, and a test
compares the two.

Names and labels are those of inovex's exporter 2.5, so that its dashboards and rules go on working;
some names are Tinkoff's, which other dashboards ask for. What no other exporter has is named after
libvirt's own word.
"""

from __future__ import annotations

from collections.abc import Mapping

from guestlist.exporter.exposition import Family, Kind


def _gauges(collector: str, **helps: str) -> tuple[Family, ...]:
    return tuple(Family(name, Kind.GAUGE, text, collector) for name, text in helps.items())


def _counters(collector: str, **helps: str) -> tuple[Family, ...]:
    return tuple(Family(name, Kind.COUNTER, text, collector) for name, text in helps.items())


def _histograms(collector: str, **helps: str) -> tuple[Family, ...]:
    return tuple(Family(name, Kind.HISTOGRAM, text, collector) for name, text in helps.items())


_HOST = _gauges(
    "",
    libvirt_up="Whether libvirt answered this scrape.",
    libvirt_domains="Number of domains, active and inactive.",
    libvirt_versions_info="Versions of the hypervisor, of the daemon and of the client library.",
)

_DOMAIN = (
    *_gauges(
        "",
        libvirt_domain_info="The domain: its UUID, operating system type, and launcher.",
        libvirt_domain_info_vstate="State of the domain: libvirt's virDomainState.",
        libvirt_domain_state_reason="Reason of the state: libvirt's number, which depends on the "
        "state.",
        libvirt_domain_timed_out="Whether the guest left the last question for statistics without "
        "an answer.",
        libvirt_domain_statistics_age_seconds="Seconds since the question whose answer is shown.",
        libvirt_domain_info_maximum_memory_bytes="Memory that the domain may have.",
        libvirt_domain_info_memory_usage_bytes="Memory that the balloon leaves to the guest.",
        libvirt_domain_info_virtual_cpus="Virtual CPUs that the domain has.",
        libvirt_domain_agent_connected="Whether the guest agent is connected.",
    ),
    *_gauges("state", libvirt_domain_info_state="State of the domain, with its word."),
    *_gauges(
        "openstack",
        libvirt_domain_openstack_info="The instance, its flavor and its owner, as Nova wrote them.",
        libvirt_domain_info_meta="The same, with the label names of Tinkoff's exporter.",
    ),
)

_CPU = _counters(
    "cpu",
    libvirt_domain_info_cpu_time_seconds_total="Processor time of the domain.",
    libvirt_domain_cpu_user_seconds_total="Processor time of the domain in user space.",
    libvirt_domain_cpu_system_seconds_total="Processor time of the domain in the kernel.",
    libvirt_domain_cpu_haltpoll_success_seconds_total="Time of polling in halt that ended with "
    "work.",
    libvirt_domain_cpu_haltpoll_fail_seconds_total="Time of polling in halt that ended without.",
    libvirt_domain_cpu_energy_joules_total="Energy that the domain used, by monitor and package "
    "(libvirt 12.4).",
)

_VCPU = (
    *_gauges(
        "vcpu",
        libvirt_domain_vcpu_current="Virtual CPUs that are online.",
        libvirt_domain_vcpu_maximum="Virtual CPUs that the domain may have.",
        libvirt_domain_vcpu_state="State of the virtual CPU: 0 offline, 1 running, 2 blocked.",
        libvirt_domain_vcpu_halted="Whether the guest halted the virtual CPU.",
    ),
    *_counters(
        "vcpu",
        libvirt_domain_vcpu_time_seconds_total="Time that the virtual CPU ran.",
        libvirt_domain_vcpu_wait_seconds_total="Time that the virtual CPU waited for I/O.",
        libvirt_domain_vcpu_delay_seconds_total="Time that the virtual CPU waited for a processor: "
        "the guest calls it steal.",
    ),
)

_MEMORY = (
    *_gauges(
        "balloon",
        libvirt_domain_memory_stats_current_balloon_bytes="Memory that the domain has now.",
        libvirt_domain_memory_stats_maximum_bytes="Memory that the domain may have.",
        libvirt_domain_memory_stats_available_bytes="Memory that the guest sees.",
        libvirt_domain_memory_stats_usable_bytes="Memory that the guest can give away without "
        "swapping.",
        libvirt_domain_memory_stats_unused_bytes="Memory that nothing in the guest uses.",
        libvirt_domain_memory_stats_used_percent="Share of the memory that the guest uses, 0 to "
        "100.",
        libvirt_domain_memory_stats_disk_caches_bytes="Memory of caches that the guest can drop.",
        libvirt_domain_memory_stats_rss_bytes="Memory of the host that the domain's process "
        "occupies.",
        libvirt_domain_memory_stats_swap_in_bytes="Bytes that the guest read from swap since its "
        "boot.",
        libvirt_domain_memory_stats_swap_out_bytes="Bytes that the guest wrote to swap since its "
        "boot.",
        libvirt_domain_memory_stats_last_update_timestamp_seconds="When the guest last told its "
        "memory.",
    ),
    *_counters(
        "balloon",
        libvirt_domain_memory_stats_major_fault_total="Page faults that needed a disk.",
        libvirt_domain_memory_stats_minor_fault_total="Page faults that needed no disk.",
    ),
    *_gauges(  # counters by their meaning; inovex's type is kept
        "balloon",
        libvirt_domain_memory_stats_hugetlb_pgalloc_total="Huge pages that the guest allocated.",
        libvirt_domain_memory_stats_hugetlb_pgfail_total="Huge pages that the guest could not "
        "allocate.",
    ),
)

_BLOCK = (
    *_gauges("block", libvirt_domain_block_stats_info="The disk: its image, driver and bus."),
    *_counters(
        "block",
        libvirt_domain_block_stats_read_bytes_total="Bytes read from the disk.",
        libvirt_domain_block_stats_read_requests_total="Read requests to the disk.",
        libvirt_domain_block_stats_read_time_seconds_total="Time spent on reads from the disk.",
        libvirt_domain_block_stats_write_bytes_total="Bytes written to the disk.",
        libvirt_domain_block_stats_write_requests_total="Write requests to the disk.",
        libvirt_domain_block_stats_write_time_seconds_total="Time spent on writes to the disk.",
        libvirt_domain_block_stats_flush_requests_total="Flush requests to the disk.",
        libvirt_domain_block_stats_flush_time_seconds_total="Time spent on flushes of the disk.",
        libvirt_domain_block_stats_errors_total="Errors of the disk (Xen only).",
    ),
    *_gauges(
        "block",
        libvirt_domain_block_stats_capacity_bytes="Size of the disk that the guest sees.",
        libvirt_domain_block_stats_allocation_bytes="Offset of the highest written sector.",
        libvirt_domain_block_stats_physicalsize_bytes="Bytes of the file or device that holds the "
        "disk.",
        libvirt_domain_block_stats_threshold_bytes="Allocation at which libvirt sends an event.",
        libvirt_domain_block_timed_latency_minimum_seconds="Lowest latency in the interval, by "
        "operation (libvirt 11.10).",
        libvirt_domain_block_timed_latency_maximum_seconds="Highest latency in the interval, by "
        "operation (libvirt 11.10).",
        libvirt_domain_block_timed_latency_average_seconds="Average latency in the interval, by "
        "operation (libvirt 11.10).",
        libvirt_domain_block_timed_queue_depth_average="Average number of pending requests in the "
        "interval, by operation (libvirt 11.10).",
    ),
    *_histograms(
        "block",
        libvirt_domain_block_latency_seconds="Latency of requests, by operation (libvirt 12.1).",
    ),
)

_LIMITS = {
    "total_bytes": "Bytes a second, reads and writes together",
    "read_bytes": "Bytes read a second",
    "write_bytes": "Bytes written a second",
    "total_requests": "Requests a second, reads and writes together",
    "read_requests": "Read requests a second",
    "write_requests": "Write requests a second",
}

_IOTUNE = _gauges(
    "iotune",
    **{
        f"libvirt_domain_block_stats_limit_{what}": f"{text}: the limit."
        for what, text in _LIMITS.items()
    },
    **{
        f"libvirt_domain_block_stats_limit_burst_{what}": f"{text}: the limit of a burst."
        for what, text in _LIMITS.items()
    },
    **{
        (
            f"libvirt_domain_block_stats_limit_burst_{what}_length_seconds"
            if what.endswith("bytes")
            else f"libvirt_domain_block_stats_limit_burst_length_{what}_seconds"
        ): f"{text}: how long a burst may last."
        for what, text in _LIMITS.items()
    },
    libvirt_domain_block_stats_size_iops_bytes="Bytes that count as one request; a larger request "
    "counts as several.",
)

_INTERFACE = (
    *_gauges(
        "interface",
        libvirt_domain_interface_stats_info="The network interface: its bridge, MAC address and "
        "Neutron port.",
    ),
    *_counters(
        "interface",
        libvirt_domain_interface_stats_receive_bytes_total="Bytes that the guest received.",
        libvirt_domain_interface_stats_receive_packets_total="Packets that the guest received.",
        libvirt_domain_interface_stats_receive_errors_total="Errors on receipt.",
        libvirt_domain_interface_stats_receive_drops_total="Packets dropped on receipt.",
        libvirt_domain_interface_stats_transmit_bytes_total="Bytes that the guest sent.",
        libvirt_domain_interface_stats_transmit_packets_total="Packets that the guest sent.",
        libvirt_domain_interface_stats_transmit_errors_total="Errors on sending.",
        libvirt_domain_interface_stats_transmit_drops_total="Packets dropped on sending.",
    ),
)

_EVENTS = (
    *_counters(
        "events",
        libvirt_domain_events_total="Events of domains, by reason.",
        libvirt_domain_io_errors_total="I/O errors of the domain's disks.",
        guestlist_exporter_connections_total="Connections to libvirt for events; between "
        "two of them events are missed.",
        guestlist_exporter_event_losses_total="Losses of events in the exporter, each followed "
        "by a list of all domains.",
    ),
    *_gauges(
        "events",
        libvirt_domain_last_fault_timestamp_seconds="When the domain last had this fault.",
    ),
)

_JOB = (
    *_gauges(
        "job",
        libvirt_domain_job_info_type="Type of the job: 1 bounded, 2 unbounded, 3 completed, "
        "4 failed, 5 cancelled.",
        libvirt_domain_job_info_operation="What the job does: libvirt's virDomainJobOperation.",
        libvirt_domain_job_info_time_elapsed_seconds="Time since the job began.",
        libvirt_domain_job_info_time_remaining_seconds="Time until the job ends, where known.",
        libvirt_domain_job_info_data_total_bytes="Bytes that the job moves.",
        libvirt_domain_job_info_data_processed_bytes="Bytes that the job has moved.",
        libvirt_domain_job_info_data_remaining_bytes="Bytes that the job has not moved yet.",
        libvirt_domain_job_info_memory_total_bytes="Memory that the job moves.",
        libvirt_domain_job_info_memory_processed_bytes="Memory that the job has moved.",
        libvirt_domain_job_info_memory_remaining_bytes="Memory that the job has not moved yet.",
        libvirt_domain_job_info_file_total_bytes="Bytes of disks that the job moves.",
        libvirt_domain_job_info_file_processed_bytes="Bytes of disks that the job has moved.",
        libvirt_domain_job_info_file_remaining_bytes="Bytes of disks not moved yet.",
        libvirt_domain_job_info_downtime_seconds="Time that the guest is expected to stand still.",
        libvirt_domain_job_info_setup_time_seconds="Time that the migration took to begin.",
        libvirt_domain_job_info_memory_bytes_per_second="Bytes of memory that are moved a second.",
        libvirt_domain_job_info_disk_bytes_per_second="Bytes of disks that are moved a second.",
        libvirt_domain_job_info_memory_dirty_bytes_per_second="Memory that the guest "
        "changes a second.",
        libvirt_domain_job_info_memory_iteration="Number of the pass over the guest's memory.",
        libvirt_domain_job_info_memory_postcopy_requests="Pages that the target has asked "
        "for since it runs the guest (post-copy).",
        libvirt_domain_job_info_auto_converge_throttle_ratio="Share of its time in which "
        "the guest is slowed down, so that the migration ends.",
        libvirt_domain_job_info_vfio_transferred_bytes="Bytes of VFIO devices (libvirt 10.6).",
    ),
    *_counters(
        "job",
        libvirt_domain_jobs_completed_total="Jobs of domains that ended.",
    ),
    *_histograms(
        "job",
        libvirt_domain_migration_downtime_seconds="Time that the guest stood still, in a "
        "migration from here.",
        libvirt_domain_migration_duration_seconds="Time that a migration from here took.",
    ),
)

_POOL = _gauges(
    "pool",
    libvirt_storage_pool_state="State of the storage pool: 0 inactive, 1 building, 2 running, "
    "3 degraded, 4 inaccessible.",
    libvirt_storage_pool_capacity_bytes="Size of the storage pool.",
    libvirt_storage_pool_allocation_bytes="Bytes of the storage pool that are allocated.",
    libvirt_storage_pool_available_bytes="Bytes of the storage pool that are free.",
    libvirt_storage_pool_timed_out="Whether the storage pool did not answer this scrape.",
)

_PROCESS = (
    *_gauges(
        "process",
        guestlist_exporter_build_info="The exporter: its version, and that of Python.",
        guestlist_exporter_view_stale_seconds="Seconds for which libvirt has not confirmed what is "
        "shown; 0 if it has.",
        guestlist_exporter_statistics_age_seconds="Seconds since the last complete round of "
        "statistics began.",
        guestlist_exporter_statistics_duration_seconds="How long the last complete round of "
        "statistics took.",
        process_resident_memory_bytes="Memory of the exporter.",
        process_open_fds="Open file descriptors of the exporter.",
        process_threads="Threads of the exporter.",
        process_start_time_seconds="When the exporter started.",
    ),
    *_counters("process", process_cpu_seconds_total="Processor time of the exporter."),
)

_TINKOFF = _gauges(
    "tinkoff",
    libvirt_domain_block_meta="The disk, with the label names of Tinkoff's exporter.",
    libvirt_domain_block_stats_allocation="Offset of the highest written sector.",
    libvirt_domain_interface_meta="The network interface, with the label names of Tinkoff's "
    "exporter.",
    libvirt_domain_memory_stats_actual_balloon_bytes="Memory that the domain has now.",
    libvirt_domain_memory_stats_disk_cache_bytes="Memory of caches that the guest can drop.",
    libvirt_pool_info_allocation_bytes="Bytes of the storage pool that are allocated.",
    libvirt_pool_info_available_bytes="Bytes of the storage pool that are free.",
    libvirt_pool_info_capacity_bytes="Size of the storage pool.",
)

_KUMINA = (
    *_counters(
        "kumina",
        libvirt_domain_block_stats_flush_seconds_total="Time spent on flushes of the disk.",
        libvirt_domain_block_stats_read_seconds_total="Time spent on reads from the disk.",
        libvirt_domain_block_stats_write_seconds_total="Time spent on writes to the disk.",
    ),
    *_gauges(
        "kumina",
        libvirt_domain_state_code="State of the domain: libvirt's virDomainState.",
        libvirt_domains_number="Number of active domains.",
    ),
)

COMPAT = ("tinkoff", "kumina")
"""Exporters whose remaining names `--compat` adds, as the collector of their families."""

FAMILIES: tuple[Family, ...] = (
    *_HOST,
    *_DOMAIN,
    *_CPU,
    *_VCPU,
    *_MEMORY,
    *_BLOCK,
    *_IOTUNE,
    *_INTERFACE,
    *_EVENTS,
    *_JOB,
    *_POOL,
    *_PROCESS,
    *_TINKOFF,
    *_KUMINA,
)
"""All families, in the order of the exposition."""

ALIASES: Mapping[str, Mapping[str, str]] = {
    "tinkoff": {
        "libvirt_domain_block_stats_allocation_bytes": "libvirt_domain_block_stats_allocation",
        "libvirt_domain_memory_stats_current_balloon_bytes": (
            "libvirt_domain_memory_stats_actual_balloon_bytes"
        ),
        "libvirt_domain_memory_stats_disk_caches_bytes": (
            "libvirt_domain_memory_stats_disk_cache_bytes"
        ),
    },
    "kumina": {
        "libvirt_domain_block_stats_flush_time_seconds_total": (
            "libvirt_domain_block_stats_flush_seconds_total"
        ),
        "libvirt_domain_block_stats_read_time_seconds_total": (
            "libvirt_domain_block_stats_read_seconds_total"
        ),
        "libvirt_domain_block_stats_write_time_seconds_total": (
            "libvirt_domain_block_stats_write_seconds_total"
        ),
        "libvirt_domain_info_vstate": "libvirt_domain_state_code",
    },
}
"""By the exporter: families whose samples it serves under another name. `pools` has those whose
labels differ too."""


def families(collectors: frozenset[str], compat: str | None = None) -> tuple[Family, ...]:
    """Return the families of these collectors, those that are always there, and those of `compat`.

    Args:
        collectors: names of `collectors.COLLECTORS`.
        compat: a name of `COMPAT`.
    """
    chosen = collectors | {"", compat}
    return tuple(family for family in FAMILIES if family.collector in chosen)
